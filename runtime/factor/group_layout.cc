// Schedules the graph of a group: levels become steps, products that read the same x stack into one
// core, values get their places in the workspace.
#include "runtime/factor/group_layout.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/api/packed_core.h"
#include "kernels/base/tensor_view.h"
#include "runtime/factor/plan_graph.h"

namespace rankine {
namespace {

// Intermediates of a pass: about the caches of two cores; and never fewer tokens than a kernel's
// tile.
constexpr int64_t kPassBytes = int64_t{8} << 20;
constexpr int64_t kMinPassTokens = 16;
constexpr int64_t kSlotAlignment = 64;

class Scheduler {
 public:
  Scheduler(absl::Span<const FactoredMatrix> matrices, absl::Span<const MatrixChoice> choices,
            const PlannerOptions& options)
      : matrices_(matrices),
        choices_(choices),
        options_(options),
        graph_(matrices, choices, options),
        values_(graph_.values()),
        nodes_(graph_.nodes()) {}

  absl::StatusOr<GroupLayout> Run();

 private:
  using Stack = std::vector<int>;  // nodes whose products run as one

  bool CanStack(const PlanNode& a, const PlanNode& b) const;
  std::vector<Stack> StacksOf(int level) const;
  void PlaceStack(const Stack& stack);
  void PlaceValue(PlanValue* value);
  PlanProduct ProductOf(const Stack& stack);
  void AddVectors(const Stack& stack, const std::vector<int64_t>& rows, PlanProduct* product);
  PlanElementwise ElementwiseOf(const PlanNode& node) const;
  void AddLevel(int level);
  void NoteSortedLegs();
  std::string WhyFixedRank(int matrix) const;
  bool IsSorted(const PlanNode& node, const std::vector<int>& legs) const;

  absl::Span<const FactoredMatrix> matrices_;
  absl::Span<const MatrixChoice> choices_;
  const PlannerOptions& options_;
  PlanGraph graph_;
  std::vector<PlanValue>& values_;
  std::vector<PlanNode>& nodes_;
  GroupLayout out_;
};

bool Scheduler::CanStack(const PlanNode& a, const PlanNode& b) const {
  const PlanProduct &p = a.product, &q = b.product;
  if (a.x != b.x || p.rows != 1 || q.rows != 1 || p.run != 0 || q.run != 0) return false;
  if (p.k != q.k || p.accumulate != q.accumulate) return false;
  if (a.step->block_encoded != b.step->block_encoded) return false;
  if (a.step->block_encoded) {
    const auto encoding = [&](const PlanNode& node) {
      return matrices_[node.matrix].terms[node.term].cores[node.step->cores[0]].encoding;
    };
    if (encoding(a) != encoding(b)) return false;
  }
  const PlanValue &y = values_[a.y], &z = values_[b.y];
  if (y.slot == kOutputSlot && z.slot == kOutputSlot)
    return z.column == y.column + RoundUp(p.n, kBlockRows);
  return y.stackable && z.stackable && y.dtype == z.dtype;
}

std::vector<Scheduler::Stack> Scheduler::StacksOf(int level) const {
  std::vector<Stack> stacks;
  for (int i = 0; i < static_cast<int>(nodes_.size()); ++i) {
    const PlanNode& node = nodes_[i];
    if (node.level != level || node.kind != StepKind::kProducts) continue;
    const auto it = std::find_if(stacks.begin(), stacks.end(), [&](const Stack& stack) {
      return CanStack(nodes_[stack.back()], node);
    });
    if (it != stacks.end()) {
      it->push_back(i);
    } else {
      stacks.push_back({i});
    }
  }
  return stacks;
}

void Scheduler::PlaceValue(PlanValue* value) {
  if (value->slot >= 0) return;
  ContractionPlan& plan = out_.plan;
  value->slot = kFirstIntermediate + static_cast<int>(plan.intermediates.size());
  const int64_t element =
      value->dtype == DType::kI8 ? 1 : static_cast<int64_t>(SizeOf(value->dtype));
  plan.intermediates.push_back({.dtype = value->dtype,
                                .columns = value->columns,
                                .stride = value->stride,
                                .offset_bytes = plan.workspace_token_bytes,
                                .zero_from = value->zero_from});
  plan.workspace_token_bytes += RoundUp(value->stride * element, kSlotAlignment);
}

// The results of a stack stand side by side in one slot.
void Scheduler::PlaceStack(const Stack& stack) {
  PlanValue& first = values_[nodes_[stack[0]].y];
  if (first.slot >= 0) return;
  if (stack.size() > 1) {
    int64_t columns = 0;
    for (const int i : stack) {
      values_[nodes_[i].y].column = columns;
      columns += RoundUp(nodes_[i].product.n, kBlockRows);
    }
    first.columns = first.stride = columns;
  }
  PlaceValue(&first);
  for (const int i : stack) {
    values_[nodes_[i].y].slot = first.slot;
    values_[nodes_[i].y].stride = first.stride;
  }
}

void Scheduler::AddVectors(const Stack& stack, const std::vector<int64_t>& rows,
                           PlanProduct* product) {
  VectorRecipe scale{.size = product->n, .fill = 1}, bias{.size = product->n};
  for (size_t i = 0; i < stack.size(); ++i) {
    const PlanNode& node = nodes_[stack[i]];
    if (!node.step->scales.empty()) {
      VectorPart part{.offset = rows[i], .size = node.product.n};
      part.matrix = node.matrix;
      part.term = node.term;
      part.scales = node.step->scales;
      part.legs = node.step->front_legs;
      part.legs.insert(part.legs.end(), node.step->back_legs.begin(), node.step->back_legs.end());
      scale.parts.push_back(std::move(part));
    }
    if (!node.bias_tensor.empty())
      bias.parts.push_back({.offset = rows[i], .size = node.product.n, .tensor = node.bias_tensor});
  }
  auto add = [&](VectorRecipe recipe) {
    if (recipe.parts.empty()) return -1;
    graph_.vectors().push_back(std::move(recipe));
    return static_cast<int>(graph_.vectors().size()) - 1;
  };
  product->scale = add(std::move(scale));
  product->bias = add(std::move(bias));
}

bool Scheduler::IsSorted(const PlanNode& node, const std::vector<int>& legs) const {
  const FactoredMatrix& m = matrices_[node.matrix];
  if (m.sorted_leg.empty() || legs.size() != 1) return false;
  return LegsOf(m, m.terms[node.term]).names[legs[0]] == m.sorted_leg;
}

PlanProduct Scheduler::ProductOf(const Stack& stack) {
  const PlanNode& first = nodes_[stack[0]];
  PlanProduct product = first.product;
  CoreRecipe core{.block_encoded = first.step->block_encoded, .k = first.product.k};
  if (core.block_encoded)
    core.encoding = matrices_[first.matrix].terms[first.term].cores[first.step->cores[0]].encoding;
  product.core = static_cast<int>(out_.cores.size());
  product.x = values_[first.x].slot;
  product.x_column = values_[first.x].column;
  product.y = values_[first.y].slot;
  product.y_column += values_[first.y].column;
  product.weight_bytes = 0;
  std::vector<int64_t> rows;
  for (const int i : stack) {
    const PlanNode& node = nodes_[i];
    const int64_t row = RoundUp(core.n, kBlockRows);
    rows.push_back(row);
    core.parts.push_back(
        {.matrix = node.matrix, .term = node.term, .step = *node.step, .row_offset = row});
    core.n = row + node.product.n;
    std::vector<int> added = node.step->front_legs;
    added.insert(added.end(), node.step->back_legs.begin(), node.step->back_legs.end());
    product.parts.push_back({.sorted_matrix = IsSorted(node, added) ? node.matrix : -1,
                             .row = row,
                             .n = node.product.n});
    product.weight_bytes += node.product.weight_bytes;
    if (choices_[node.matrix].is_dense)
      out_.dense_cores[node.matrix] = {.core = product.core, .row = row, .n = node.product.n};
  }
  product.n = core.n;
  if (IsSorted(first, first.step->summed_legs)) product.sorted_columns_matrix = first.matrix;
  AddVectors(stack, rows, &product);
  out_.cores.push_back(std::move(core));
  return product;
}

PlanElementwise Scheduler::ElementwiseOf(const PlanNode& node) const {
  PlanElementwise e = node.elementwise;
  e.x = values_[node.x].slot;
  e.x_column = values_[node.x].column;
  e.y = values_[node.y].slot;
  e.y_column = values_[node.y].column;
  if (node.quantized >= 0) {
    e.quantized = values_[node.quantized].slot;
    e.only_quantized = std::none_of(nodes_.begin(), nodes_.end(),
                                    [&](const PlanNode& reader) { return reader.x == node.y; });
  }
  // A quantised rank: the product that reads it knows whose.
  for (const PlanNode& reader : nodes_) {
    if (node.kind == StepKind::kConvert && reader.kind == StepKind::kProducts &&
        reader.x == node.y && IsSorted(reader, reader.step->summed_legs)) {
      e.sorted_columns_matrix = reader.matrix;
    }
  }
  return e;
}

void Scheduler::AddLevel(int level) {
  for (const PlanNode& node : nodes_) {
    if (node.level != level || node.kind == StepKind::kProducts) continue;
    PlaceValue(&values_[node.y]);
    if (node.quantized >= 0) PlaceValue(&values_[node.quantized]);
    PlanStep step{.kind = node.kind};
    step.elementwise = ElementwiseOf(node);
    out_.plan.steps.push_back(std::move(step));
  }
  PlanStep products;
  for (const Stack& stack : StacksOf(level)) {
    PlaceStack(stack);
    products.products.push_back(ProductOf(stack));
  }
  if (!products.products.empty()) out_.plan.steps.push_back(std::move(products));
}

std::string Scheduler::WhyFixedRank(int matrix) const {
  const FactoredMatrix& m = matrices_[matrix];
  if (m.sorted_leg.empty()) return "it has no sorted leg";
  bool found = false;
  for (const PlanNode& node : nodes_) {
    if (node.matrix != matrix || node.kind != StepKind::kProducts) continue;
    const LoweredStep& s = *node.step;
    const TermLegs legs = LegsOf(m, m.terms[node.term]);
    for (const std::vector<int>* list :
         {&s.front_legs, &s.back_legs, &s.summed_legs, &s.row_legs}) {
      const bool holds = std::any_of(list->begin(), list->end(),
                                     [&](int leg) { return legs.names[leg] == m.sorted_leg; });
      if (!holds) continue;
      found = true;
      const bool alone = list->size() == 1 && s.rows == 1 && !s.gathers;
      const bool added = list != &s.summed_legs;
      if (!alone || (added && s.front_legs.size() + s.back_legs.size() != 1))
        return "its plan keeps the sorted leg beside others";
    }
  }
  return found ? "" : "its plan folds the sorted leg away";
}

void Scheduler::NoteSortedLegs() {
  for (size_t i = 0; i < matrices_.size(); ++i) {
    const FactoredMatrix& m = matrices_[i];
    int64_t extent = 0;
    for (const Term& term : m.terms) {
      for (const Core& core : term.cores) {
        for (const LegRange& leg : core.legs) {
          if (leg.name == m.sorted_leg) extent = leg.extent;
        }
      }
    }
    out_.plan.sorted_extents.push_back(extent);
    out_.plan.fixed_rank.push_back(WhyFixedRank(static_cast<int>(i)));
  }
}

absl::StatusOr<GroupLayout> Scheduler::Run() {
  ContractionPlan& plan = out_.plan;
  plan.compute = options_.compute;
  plan.input_columns = matrices_[0].in_features;
  plan.output_columns = graph_.total_output_columns();
  out_.output_columns = graph_.output_columns();
  out_.dense_cores.resize(matrices_.size());
  int last = 0;
  for (const PlanNode& node : nodes_) {
    last = std::max(last, node.level);
    plan.needs_dense |= node.x == kInputSlot;
    plan.needs_quantized |= node.x == kQuantizedSlot;
  }
  for (int level = 0; level <= last; ++level) AddLevel(level);
  for (const PlanValue& value : values_) {
    if (value.slot == kOutputSlot && value.zero_from >= 0)
      plan.output_pads.push_back(
          {value.column + value.zero_from, value.column + RoundUp(value.columns, kColumnPad)});
  }
  for (const MatrixChoice& choice : choices_) plan.expressions.push_back(choice.expression());
  plan.pass_tokens = plan.workspace_token_bytes == 0
                         ? INT64_MAX
                         : std::max(kMinPassTokens, kPassBytes / plan.workspace_token_bytes /
                                                        kMinPassTokens * kMinPassTokens);
  NoteSortedLegs();
  out_.vectors = std::move(graph_.vectors());
  out_.index_lists = std::move(graph_.index_lists());
  return std::move(out_);
}

}  // namespace

absl::StatusOr<GroupLayout> LayOutGroup(absl::Span<const FactoredMatrix> matrices,
                                        absl::Span<const MatrixChoice> choices,
                                        const PlannerOptions& options) {
  return Scheduler(matrices, choices, options).Run();
}

}  // namespace rankine
