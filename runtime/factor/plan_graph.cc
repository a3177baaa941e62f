#include "runtime/factor/plan_graph.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/api/products.h"
#include "kernels/api/quantized_rows.h"
#include "kernels/base/tensor_view.h"
#include "runtime/factor/step_key.h"

namespace rankine {
namespace {

// Columns that a row is readable to, for products with block-encoded cores.
constexpr int64_t kBlockColumns = 64;

constexpr int64_t kCacheLineBytes = 64;

// Where each element of the layout `to` lies in the layout `from` of the same legs.
std::vector<int64_t> Positions(const TermLegs& legs, const std::vector<int>& from,
                               const std::vector<int>& to) {
  std::vector<int64_t> stride(legs.extents.size());
  int64_t size = 1;
  for (auto leg = from.rbegin(); leg != from.rend(); ++leg) {
    stride[*leg] = size;
    size *= legs.extents[*leg];
  }
  std::vector<int64_t> result = {0};
  for (const int leg : to) {
    std::vector<int64_t> next;
    next.reserve(result.size() * legs.extents[leg]);
    for (const int64_t base : result) {
      for (int64_t i = 0; i < legs.extents[leg]; ++i) next.push_back(base + i * stride[leg]);
    }
    result = std::move(next);
  }
  return result;
}

}  // namespace

PlanGraph::PlanGraph(absl::Span<const FactoredMatrix> matrices,
                     absl::Span<const MatrixChoice> choices, const PlannerOptions& options)
    : matrices_(matrices), choices_(choices), options_(options) {
  const int64_t in = matrices[0].in_features;
  NewValue({.dtype = options.compute,
            .columns = in,
            .stride = RoundUp(in, kColumnPad),
            .slot = kInputSlot});
  NewValue({.dtype = DType::kI8,
            .columns = in,
            .stride = QuantizedRowBytes(in),
            .slot = kQuantizedSlot});
  for (const FactoredMatrix& m : matrices) {
    output_columns_.push_back(total_output_columns_);
    total_output_columns_ += RoundUp(m.out_features, kColumnPad);
  }
  for (size_t i = 0; i < matrices.size(); ++i) AddMatrix(static_cast<int>(i));
}

int PlanGraph::NewValue(PlanValue value) {
  values_.push_back(value);
  return static_cast<int>(values_.size()) - 1;
}

int PlanGraph::Write(PlanNode node) {
  node.level = std::max(values_[node.x].level, values_[node.y].level);
  values_[node.y].level = node.level + 1;
  nodes_.push_back(std::move(node));
  return nodes_.back().y;
}

int PlanGraph::NewVector(const std::string& tensor, int64_t size) {
  vectors_.push_back({.size = size, .parts = {{.size = size, .tensor = tensor}}});
  return static_cast<int>(vectors_.size()) - 1;
}

void PlanGraph::AddMatrix(int index) {
  const FactoredMatrix& m = matrices_[index];
  const MatrixChoice& choice = choices_[index];
  const int input = Transformed(m.input_transforms, 0);
  const bool transformed = !m.output_transforms.empty();
  const int output = NewValue({.columns = m.out_features,
                               .stride = total_output_columns_,
                               .slot = kOutputSlot,
                               .column = output_columns_[index]});
  int sum = transformed ? -1 : output;
  // The shortest terms first, so that all that follow can add to them.
  std::vector<int> order(choice.terms.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return choice.terms[a].choice().num_steps < choice.terms[b].choice().num_steps;
  });
  for (const int term : order) sum = AddTerm(index, term, input, sum, term == order[0]);
  if (!transformed) return;
  absl::Span<const Transform> transforms = m.output_transforms;
  const Transform& last = transforms.back();
  if (last.kind != Transform::Kind::kHadamard)
    return AddTo(Transformed(transforms, sum), output, m.bias_tensor, false);
  transforms.remove_suffix(1);
  TransformInto(last, Transformed(transforms, sum), output, m);
}

int PlanGraph::AddPivotedTerm(int matrix, int term, int input) {
  const int64_t columns = matrices_[matrix].out_features;
  const Lowering& lowering = choices_[matrix].terms[term].choice().lowering;
  const size_t size = lowering.steps.size();
  // The last product writes exactly its columns, which need not end at a multiple of 16.
  const int whole = NewValue({.columns = columns,
                              .stride = RoundUp(columns, kColumnPad),
                              .zero_from = columns % kColumnPad == 0 ? -1 : columns});
  int value = input;
  for (size_t i = 0; i < size; ++i)
    value = AddStep(matrix, term, i, value, i + 2 < size ? -1 : whole, true);
  return whole;
}

int PlanGraph::AddTerm(int matrix, int term, int input, int target, bool first) {
  const FactoredMatrix& m = matrices_[matrix];
  const Lowering& lowering = choices_[matrix].terms[term].choice().lowering;
  const bool pivoted = lowering.steps.back().identity_rows != 0;
  if (target < 0) {
    if (pivoted) return AddPivotedTerm(matrix, term, input);
    target = NewValue({.columns = m.out_features, .stride = RoundUp(m.out_features, kColumnPad)});
  }
  const bool biased = first && values_[target].slot == kOutputSlot && !m.bias_tensor.empty();
  // A product adds a bias to the columns of its rows, not to each row another.
  const bool direct =
      !pivoted && !lowering.gathers_output && !(biased && lowering.steps.back().rows > 1);
  int value = input;
  for (size_t i = 0; i < lowering.steps.size() && !pivoted; ++i) {
    const bool last = i + 1 == lowering.steps.size();
    value = AddStep(matrix, term, i, value, last && direct ? target : -1, first);
  }
  if (direct) return target;
  if (pivoted) value = AddPivotedTerm(matrix, term, input);
  if (lowering.gathers_output) {
    const TermLegs legs = LegsOf(m, m.terms[term]);
    int64_t row_columns = 0;
    value = Gathered(legs, lowering.output_from, {}, legs.output, value, &row_columns);
  }
  AddTo(value, target, biased ? m.bias_tensor : "", !first);
  return target;
}

PlanValue PlanGraph::ResultOf(const Lowering& lowering, size_t index, int64_t* run) const {
  const LoweredStep& step = lowering.steps[index];
  const LoweredStep* next =
      index + 1 < lowering.steps.size() ? &lowering.steps[index + 1] : nullptr;
  PlanValue value{.columns = step.out_elements()};
  const bool is_x = next != nullptr && !next->gathers;
  if (is_x && ActivationsOf(*next, options_) != DType::kI8) value.dtype = options_.compute;
  const bool exact = is_x && next->rows > 1;
  value.stride = exact ? value.columns : RoundUp(value.columns, kColumnPad);
  *run = step.rows > 1 ? step.run : exact && value.columns % kColumnPad != 0 ? step.n : 0;
  value.stackable = *run == 0 && !exact;
  if (*run != 0 && value.stride > value.columns) value.zero_from = value.columns;
  // The runs of each column make one row of the next step: rows can lie further apart.
  const auto element = static_cast<int64_t>(SizeOf(value.dtype));
  if (exact && *run != 0 && next->k == step.rows * *run &&
      next->k * element % kCollidingBytes == 0) {
    value.row_stride = next->k + kCacheLineBytes / element;
    value.columns = value.stride = next->rows * value.row_stride;
  }
  return value;
}

std::string PlanGraph::KeyOfResult(int matrix, int term, const LoweredStep& step,
                                   const PlanNode& node, const PlanValue& result) const {
  const FactoredMatrix& m = matrices_[matrix];
  // Scales and sorted legs belong to one matrix.
  if (!step.scales.empty() || step.identity_rows != 0 || !m.sorted_leg.empty()) return "";
  const std::string core = StepKey(m, m.terms[term], step);
  if (core.empty()) return "";
  const PlanProduct& p = node.product;
  return absl::StrCat(node.x, " ", p.x_row_columns, " ", p.rows, " ", p.run, " ",
                      static_cast<int>(result.dtype), " ", result.columns, " ", result.stride, " ",
                      result.zero_from, " ", result.stackable, "\n", core);
}

int PlanGraph::AddStep(int matrix, int term, size_t index, int x, int target, bool first) {
  const FactoredMatrix& m = matrices_[matrix];
  const Lowering& lowering = choices_[matrix].terms[term].choice().lowering;
  const LoweredStep& step = lowering.steps[index];
  PlanNode node{.matrix = matrix, .term = term, .step = &step};
  PlanProduct& p = node.product;
  node.x = Prepared(step, LegsOf(m, m.terms[term]), x, &p.x_row_columns);
  p.n = step.n;
  p.k = step.k;
  p.rows = step.rows;
  p.compute = values_[node.x].dtype;
  p.weight_bytes = PackedStepBytes(m.terms[term], step, options_.weight_dtype);
  if (target >= 0) {
    node.y = target;
    p.run = step.rows > 1 ? step.run : step.identity_rows > 0 ? step.n : 0;
    p.y_column = step.identity_rows;
    p.accumulate = !first;
    PlanValue& y = values_[target];
    if (p.run != 0 && first && y.columns % kColumnPad != 0) y.zero_from = y.columns;
    if (first && y.slot == kOutputSlot) node.bias_tensor = m.bias_tensor;
  } else {
    const PlanValue result = ResultOf(lowering, index, &p.run);
    const std::string key = KeyOfResult(matrix, term, step, node, result);
    if (!key.empty()) {
      const auto [known, added] = shared_.try_emplace(key, static_cast<int>(values_.size()));
      if (!added) return known->second;
    }
    node.y = NewValue(result);
  }
  const int64_t row_stride = values_[node.y].row_stride;
  p.run_stride = p.run == 0 ? 0 : row_stride != 0 ? row_stride : step.rows * p.run;
  return Write(std::move(node));
}

int PlanGraph::Prepared(const LoweredStep& step, const TermLegs& legs, int value,
                        int64_t* row_columns) {
  const int64_t row_stride = values_[value].row_stride;
  *row_columns = row_stride != 0 ? row_stride : step.k;
  if (step.gathers)
    value = Gathered(legs, step.gather_from, step.row_legs, step.summed_legs, value, row_columns);
  const DType want = ActivationsOf(step, options_);
  const PlanValue& v = values_[value];
  const bool input = value == kInputSlot;
  if (want == DType::kI8 && input && (step.rows == 1 || step.k % kRecordColumns == 0))
    return kQuantizedSlot;
  // A block-encoded core reads to the next multiple of 64 columns, which others may have left
  // unwritten; the caller's buffer may end after its last row.
  const bool wide = want != DType::kI8 && step.block_encoded && step.k % kBlockColumns != 0 &&
                    (input || step.rows == 1);
  // Nor may products read a column that others write in the same step.
  const bool overruns =
      (input && step.rows > 1 && step.k % 2 != 0) || (step.identity_rows > 0 && step.k % 2 != 0);
  if (v.dtype == want && !wide && !overruns) return value;
  return Converted(value, want, wide, step.rows, step.k, row_columns);
}

int PlanGraph::Gathered(const TermLegs& legs, const std::vector<int>& from,
                        const std::vector<int>& rows, const std::vector<int>& columns, int value,
                        int64_t* row_columns) {
  const int64_t num_rows = legs.Size(rows), k = legs.Size(columns);
  // What the pads hold is not read, or multiplied by zero.
  *row_columns = GatheredRowColumns(num_rows, k);
  std::vector<int> to = rows;
  to.insert(to.end(), columns.begin(), columns.end());
  const std::vector<int64_t> positions = Positions(legs, from, to);
  std::vector<int32_t> indices(num_rows * *row_columns, 0);
  for (int64_t i = 0; i < num_rows * k; ++i)
    indices[i / k * *row_columns + i % k] = static_cast<int32_t>(positions[i]);
  const auto size = static_cast<int64_t>(indices.size());
  PlanNode node{.kind = StepKind::kPermute, .x = value};
  node.elementwise.columns = size;
  node.elementwise.vector = static_cast<int>(index_lists_.size());
  index_lists_.push_back({.size = size, .indices = std::move(indices)});
  node.y = NewValue({.columns = size, .stride = RoundUp(size, kColumnPad)});
  return Write(std::move(node));
}

int PlanGraph::Converted(int value, DType dtype, bool wide, int64_t rows, int64_t columns,
                         int64_t* row_columns) {
  const int64_t x_row_columns = *row_columns;
  const int64_t padded = RoundUp(columns, wide ? kBlockColumns : kColumnPad);
  *row_columns = dtype == DType::kI8 ? columns : padded;
  const auto [memo, added] =
      converted_.try_emplace(std::make_tuple(value, dtype, wide, rows, columns), 0);
  if (!added) return memo->second;
  PlanValue result{.dtype = dtype, .columns = rows * *row_columns, .stride = rows * padded};
  if (dtype == DType::kI8) result.stride = rows * QuantizedRowBytes(columns);
  if (wide && RoundUp(columns, kColumnPad) != padded && rows == 1)
    result.zero_from = RoundUp(columns, kColumnPad);
  // Rows of whole records follow each other as one row does.
  if (dtype == DType::kI8 &&
      (rows == 1 || (columns % kRecordColumns == 0 && x_row_columns == columns))) {
    const int quantized = QuantizedByTransform(value, result);
    if (quantized >= 0) return memo->second = quantized;
  }
  PlanNode node{.kind = StepKind::kConvert, .x = value};
  node.elementwise.rows = rows;
  node.elementwise.columns = columns;
  node.elementwise.x_row_columns = x_row_columns;
  node.elementwise.y_row_columns = *row_columns;
  node.y = NewValue(result);
  return memo->second = Write(std::move(node));
}

int PlanGraph::QuantizedByTransform(int value, const PlanValue& form) {
  for (PlanNode& node : nodes_) {
    if (node.kind != StepKind::kHadamard || node.y != value || node.quantized >= 0) continue;
    node.quantized = NewValue(form);
    values_[node.quantized].level = node.level + 1;
    return node.quantized;
  }
  return -1;
}

PlanNode PlanGraph::HadamardNode(const Transform& transform, int value) {
  PlanNode node{.kind = StepKind::kHadamard, .x = value};
  PlanElementwise& e = node.elementwise;
  e.columns = values_[value].columns;
  e.transposed = transform.transposed;
  e.vector = NewVector(transform.tensor, e.columns);
  if (transform.block_tensor.empty()) return node;
  e.block = NewVector(transform.block_tensor, 0);
  // The op takes by columns what it multiplies by: a block as stored by rows is its transpose's.
  vectors_[e.block].transposed = !transform.transposed;
  return node;
}

void PlanGraph::TransformInto(const Transform& transform, int value, int output,
                              const FactoredMatrix& m) {
  PlanNode node = HadamardNode(transform, value);
  node.y = output;
  if (!m.bias_tensor.empty()) node.elementwise.bias = NewVector(m.bias_tensor, m.out_features);
  Write(std::move(node));
}

int PlanGraph::Transformed(absl::Span<const Transform> transforms, int value) {
  std::string key = absl::StrCat(value);
  for (const Transform& t : transforms) {
    absl::StrAppend(&key, "\n", static_cast<int>(t.kind), " ", t.transposed, " ", t.tensor, "\n",
                    t.block_tensor);
    const auto [memo, added] = transformed_.try_emplace(key, 0);
    if (added) {
      const int64_t columns = values_[value].columns;
      PlanNode node{.kind = StepKind::kPermute, .x = value};
      if (t.kind == Transform::Kind::kHadamard) {
        node = HadamardNode(t, value);
      } else {
        node.elementwise.columns = columns;
        node.elementwise.vector = static_cast<int>(index_lists_.size());
        index_lists_.push_back({.tensor = t.tensor, .size = columns});
      }
      node.y = NewValue({.columns = columns, .stride = RoundUp(columns, kColumnPad)});
      memo->second = Write(std::move(node));
    }
    value = memo->second;
  }
  return value;
}

void PlanGraph::AddTo(int value, int target, const std::string& bias_tensor, bool accumulate) {
  PlanNode node{.kind = StepKind::kAdd, .x = value, .y = target};
  node.elementwise.columns = values_[target].columns;
  node.elementwise.accumulate = accumulate;
  if (!bias_tensor.empty())
    node.elementwise.vector = NewVector(bias_tensor, node.elementwise.columns);
  Write(std::move(node));
}

}  // namespace rankine
