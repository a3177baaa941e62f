#include "runtime/factor/linear_group.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/api/elementwise.h"
#include "kernels/api/hadamard.h"
#include "kernels/api/quantized_rows.h"
#include "kernels/base/check.h"

namespace rankine {
namespace {

// Products given to the op at once.
constexpr size_t kMaxProducts = 32;

// Elements of a view's rows that `columns` take: bytes of records for i8.
int64_t ElementsOf(DType dtype, int64_t columns) {
  return dtype == DType::kI8 ? columns / kRecordColumns * QuantizedRowBytes(kRecordColumns)
                             : columns;
}

int64_t ElementBytes(DType dtype) {
  return dtype == DType::kI8 ? 1 : static_cast<int64_t>(SizeOf(dtype));
}

MatrixView FromRow(MatrixView view, int64_t row) {
  if (view.data == nullptr) return view;
  view.data = static_cast<char*>(view.data) + row * view.stride * ElementBytes(view.dtype);
  view.rows -= row;
  return view;
}

// Where the slots of one pass lie.
class Slots {
 public:
  Slots(const ContractionPlan& plan, const GroupInput& x, const MatrixView& y, void* workspace,
        int64_t capacity)
      : plan_(plan), x_(x), y_(y), workspace_(static_cast<char*>(workspace)), capacity_(capacity) {}

  int64_t num_tokens() const { return y_.rows; }

  MatrixView Of(int slot) const {
    if (slot == kInputSlot) return x_.dense;
    if (slot == kQuantizedSlot) return x_.quantized;
    if (slot == kOutputSlot) return y_;
    const int index = slot - kFirstIntermediate;
    const PlanSlot& s = plan_.intermediates[index];
    return {.data = workspace_ + s.offset_bytes * capacity_ + index * kPlanSlackBytes,
            .dtype = s.dtype,
            .rows = num_tokens(),
            .cols = s.columns,
            .stride = s.stride};
  }

  // `rows` rows of `columns` a token, `row_columns` apart where there are several.
  MatrixView Rows(int slot, int64_t column, int64_t rows, int64_t columns,
                  int64_t row_columns) const {
    MatrixView view = Of(slot);
    view.data =
        static_cast<char*>(view.data) + ElementsOf(view.dtype, column) * ElementBytes(view.dtype);
    view.cols = columns;
    if (rows == 1) return view;
    const int64_t stride = view.dtype == DType::kI8 ? QuantizedRowBytes(row_columns) : row_columns;
    RK_CHECK(num_tokens() <= 1 || view.stride == rows * stride);
    view.stride = stride;
    view.rows = num_tokens() * rows;
    return view;
  }

  // What kernels read though no step writes it must be finite.
  void ClearPads() const {
    for (size_t i = 0; i < plan_.intermediates.size(); ++i) {
      const PlanSlot& s = plan_.intermediates[i];
      const MatrixView view = Of(kFirstIntermediate + static_cast<int>(i));
      const int64_t element = ElementBytes(s.dtype);
      char* data = static_cast<char*>(view.data);
      std::memset(data + num_tokens() * s.stride * element, 0, kPlanSlackBytes);
      if (s.zero_from < 0) continue;
      for (int64_t t = 0; t < num_tokens(); ++t) {
        std::memset(data + (t * s.stride + s.zero_from) * element, 0,
                    (s.stride - s.zero_from) * element);
      }
    }
  }

 private:
  const ContractionPlan& plan_;
  const GroupInput& x_;
  const MatrixView& y_;
  char* const workspace_;
  const int64_t capacity_;
};

void ClearOutputPads(const ContractionPlan& plan, const MatrixView& y) {
  for (const ContractionPlan::Columns& pad : plan.output_pads) {
    for (int64_t t = 0; t < y.rows; ++t)
      std::memset(y.Row<float>(t) + pad.begin, 0, (pad.end - pad.begin) * sizeof(float));
  }
}

}  // namespace

// Runs the steps of one pass.
class PlanRunner {
 public:
  PlanRunner(Device& device, const std::vector<PackedCore>& cores,
             const std::vector<const float*>& vectors,
             const std::vector<const int32_t*>& index_lists, const Slots& slots, bool accumulate)
      : device_(device),
        cores_(cores),
        vectors_(vectors),
        index_lists_(index_lists),
        slots_(slots),
        accumulate_(accumulate) {}

  void Run(const PlanStep& step) const {
    switch (step.kind) {
      case StepKind::kProducts:
        return Products(step);
      case StepKind::kConvert:
        return device_.ops().convert({.x = X(step), .out = Y(step)}, device_.stream());
      case StepKind::kHadamard:
        return Hadamard(step);
      case StepKind::kPermute:
        return device_.ops().permute(
            {.x = X(step), .indices = index_lists_[step.elementwise.vector], .out = Y(step)},
            device_.stream());
      case StepKind::kAdd:
        return Add(step);
    }
  }

 private:
  MatrixView X(const PlanStep& step) const {
    const PlanElementwise& e = step.elementwise;
    return slots_.Rows(e.x, e.x_column, e.rows, e.columns, e.x_row_columns);
  }
  MatrixView Y(const PlanStep& step) const {
    const PlanElementwise& e = step.elementwise;
    return slots_.Rows(e.y, e.y_column, e.rows, e.columns, e.y_row_columns);
  }
  const float* Vector(int index, int64_t offset) const {
    return index < 0 ? nullptr : vectors_[index] + offset;
  }
  bool Accumulates(int slot, bool in_plan) const {
    return in_plan || (accumulate_ && slot == kOutputSlot);
  }

  void Products(const PlanStep& step) const {
    std::array<Product, kMaxProducts> products;
    for (size_t first = 0; first < step.products.size(); first += kMaxProducts) {
      const size_t count = std::min(kMaxProducts, step.products.size() - first);
      for (size_t i = 0; i < count; ++i) products[i] = Make(step.products[first + i]);
      device_.ops().products({.products = products.data(),
                              .num_products = static_cast<int>(count),
                              .num_tokens = slots_.num_tokens()},
                             device_.stream());
    }
  }

  Product Make(const PlanProduct& p) const {
    PackedCore core = cores_[p.core];
    core.data = static_cast<char*>(core.data) + p.core_row / kBlockRows * core.block_stride;
    core.n = p.n;
    core.k = p.k;
    MatrixView y = slots_.Of(p.y);
    y.data = static_cast<char*>(y.data) + p.y_column * ElementBytes(y.dtype);
    y.cols = p.n * p.rows;
    return {.weights = core,
            .x = slots_.Rows(p.x, p.x_column, p.rows, p.k, p.x_row_columns),
            .y = y,
            .rows_per_token = p.rows,
            .run = p.run,
            .run_stride = p.run_stride,
            .scale = Vector(p.scale, p.vector_offset),
            .bias = Vector(p.bias, p.vector_offset),
            .accumulate = Accumulates(p.y, p.accumulate)};
  }

  void Hadamard(const PlanStep& step) const {
    const PlanElementwise& e = step.elementwise;
    HadamardArgs args{.x = X(step),
                      .signs = vectors_[e.vector],
                      .block = Vector(e.block, 0),
                      .block_size = e.block_size,
                      .transposed = e.transposed,
                      .bias = Vector(e.bias, 0),
                      .accumulate = Accumulates(e.y, false)};
    if (e.quantized >= 0) args.quantized = slots_.Of(e.quantized);
    if (e.only_quantized) {
      args.scratch = Y(step);
    } else {
      args.out = Y(step);
      if (e.y == kOutputSlot) args.scratch = args.x;
    }
    device_.ops().hadamard(args, device_.stream());
  }

  void Add(const PlanStep& step) const {
    const PlanElementwise& e = step.elementwise;
    device_.ops().add({.x = X(step),
                       .bias = Vector(e.vector, 0),
                       .y = Y(step),
                       .accumulate = Accumulates(e.y, e.accumulate)},
                      device_.stream());
  }

  Device& device_;
  const std::vector<PackedCore>& cores_;
  const std::vector<const float*>& vectors_;
  const std::vector<const int32_t*>& index_lists_;
  const Slots& slots_;
  const bool accumulate_;
};

PackedCore LinearGroup::dense_core(int i) const {
  const DenseCore& dense = dense_cores_[i];
  if (dense.core < 0) return {};
  PackedCore core = cores_[dense.core];
  core.data = static_cast<char*>(core.data) + dense.row / kBlockRows * core.block_stride;
  core.n = dense.n;
  return core;
}

int64_t LinearGroup::workspace_bytes(int64_t num_tokens) const {
  int64_t most = 0;
  for (const ContractionPlan& plan : plans_)
    most = std::max(most, plan.workspace_bytes(num_tokens));
  return most;
}

int64_t LinearGroup::weight_bytes() const {
  int64_t total = 0;
  for (const Buffer& buffer : buffers_) total += buffer.bytes();
  return total;
}

void LinearGroup::RunPlan(const ContractionPlan& plan, Device& device, const GroupInput& x,
                          const MatrixView& y, void* workspace, bool accumulate) const {
  RK_CHECK(y.dtype == DType::kF32);
  RK_CHECK(!plan.needs_dense || (x.dense.data != nullptr && x.dense.dtype == plan.compute));
  RK_CHECK(!plan.needs_quantized ||
           (x.quantized.data != nullptr && x.quantized.dtype == DType::kI8));
  const int64_t capacity = std::min(y.rows, plan.pass_tokens);
  for (int64_t begin = 0; begin < y.rows; begin += capacity) {
    const int64_t count = std::min(capacity, y.rows - begin);
    GroupInput pass_x{.dense = FromRow(x.dense, begin), .quantized = FromRow(x.quantized, begin)};
    MatrixView pass_y = FromRow(y, begin);
    pass_x.dense.rows = pass_x.quantized.rows = pass_y.rows = count;
    const Slots slots(plan, pass_x, pass_y, workspace, capacity);
    slots.ClearPads();
    if (!accumulate) ClearOutputPads(plan, pass_y);
    const PlanRunner runner(device, cores_, vectors_, index_lists_, slots, accumulate);
    for (const PlanStep& step : plan.steps) runner.Run(step);
  }
}

}  // namespace rankine
