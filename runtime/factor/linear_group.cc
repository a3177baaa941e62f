#include "runtime/factor/linear_group.h"

#include <algorithm>
#include <array>

#include "kernels/base/check.h"

namespace rankine {
namespace {

MatrixView Columns(const MatrixView& base, int64_t column, int64_t count) {
  MatrixView view = base;
  view.data = static_cast<char*>(base.data) + column * static_cast<int64_t>(SizeOf(base.dtype));
  view.cols = count;
  return view;
}

}  // namespace

const PackedCore* LinearGroup::dense_core(int i) const {
  return dense_cores_[i] < 0 ? nullptr : &cores_[dense_cores_[i]];
}

int64_t LinearGroup::weight_bytes() const {
  int64_t total = 0;
  for (const Buffer& buffer : buffers_) total += buffer.bytes();
  return total;
}

void LinearGroup::Run(Device& device, const MatrixView& x, const MatrixView& y, void* intermediate,
                      bool accumulate) const {
  RK_CHECK(x.dtype == plan_.compute && y.dtype == DType::kF32);
  const MatrixView z{.data = intermediate,
                     .dtype = plan_.compute,
                     .rows = x.rows,
                     .cols = plan_.intermediate_columns,
                     .stride = plan_.intermediate_columns};
  const std::array<const MatrixView*, 3> slots = {&x, &z, &y};
  for (const PlanStep& step : plan_.steps) {
    std::array<Product, kMaxMatrices + 1> products;
    int count = 0;
    for (const PlanProduct& p : step.products) {
      products[count++] = Product{
          .weights = cores_[p.core],
          .x = Columns(*slots[static_cast<int>(p.x)], p.x_column, p.k),
          .y = Columns(*slots[static_cast<int>(p.y)], p.y_column, p.n),
          .scale = p.scale < 0 ? nullptr : vectors_[p.scale],
          .bias = p.bias < 0 ? nullptr : vectors_[p.bias],
          .accumulate = accumulate && p.y == Slot::kOutput,
      };
    }
    device.ops().products(
        {.products = products.data(), .num_products = count, .num_tokens = x.rows},
        device.stream());
  }
}

}  // namespace rankine
