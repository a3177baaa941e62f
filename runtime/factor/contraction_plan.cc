#include "runtime/factor/contraction_plan.h"

#include <algorithm>

#include "kernels/api/quantized_rows.h"
#include "runtime/factor/product_cost.h"

namespace rankine {
namespace {

int64_t RowBytes(DType dtype, int64_t columns) {
  return dtype == DType::kI8 ? QuantizedRowBytes(columns)
                             : columns * static_cast<int64_t>(SizeOf(dtype));
}

}  // namespace

int64_t ContractionPlan::weight_bytes() const {
  int64_t total = 0;
  for (const PlanStep& step : steps) {
    for (const PlanProduct& p : step.products) total += p.weight_bytes;
  }
  return total;
}

int64_t ContractionPlan::operations_per_token() const {
  int64_t total = 0;
  for (const PlanStep& step : steps) {
    for (const PlanProduct& p : step.products) total += 2 * p.multiply_adds_per_token();
  }
  return total;
}

int64_t ContractionPlan::workspace_bytes(int64_t num_tokens) const {
  return std::min(num_tokens, pass_tokens) * workspace_token_bytes +
         static_cast<int64_t>(intermediates.size()) * kPlanSlackBytes;
}

DType ContractionPlan::SlotDType(int slot) const {
  switch (slot) {
    case kInputSlot:
      return compute;
    case kQuantizedSlot:
      return DType::kI8;
    case kOutputSlot:
      return DType::kF32;
    default:
      return intermediates[slot - kFirstIntermediate].dtype;
  }
}

StepCost ContractionPlan::CostOf(const PlanStep& step, int64_t num_tokens,
                                 const DeviceProfile& profile) const {
  StepCost cost;
  for (const PlanProduct& p : step.products) {
    cost.weight_bytes += p.weight_bytes;
    cost.activation_bytes +=
        num_tokens * p.rows * (RowBytes(SlotDType(p.x), p.k) + RowBytes(SlotDType(p.y), p.n));
    cost.compute_seconds += ProductSeconds(
        {.n = p.n, .k = p.k, .rows = num_tokens * p.rows, .run = p.run, .x = p.compute}, profile);
  }
  if (step.kind != StepKind::kProducts) {
    const PlanElementwise& e = step.elementwise;
    int64_t row_bytes = RowBytes(SlotDType(e.x), e.columns);
    if (!e.only_quantized)
      row_bytes += (e.accumulate ? 2 : 1) * RowBytes(SlotDType(e.y), e.columns);
    if (e.quantized >= 0) row_bytes += RowBytes(DType::kI8, e.columns);
    cost.activation_bytes += num_tokens * e.rows * row_bytes;
    if (step.kind == StepKind::kHadamard) {
      cost.compute_seconds = HadamardSeconds(e.columns, e.block_size, num_tokens * e.rows, profile);
    }
    if (step.kind == StepKind::kPermute)
      cost.compute_seconds += GatherSeconds(num_tokens * e.rows * e.columns, profile);
  }
  return cost;
}

PlanPrediction ContractionPlan::Predict(int64_t num_tokens, const DeviceProfile& profile) const {
  PlanPrediction total;
  double seconds = 0;
  // Each pass repeats the steps; weights that fit into the caches are read from memory once.
  for (int64_t begin = 0; begin < num_tokens; begin += std::min(pass_tokens, num_tokens)) {
    const int64_t tokens = std::min(pass_tokens, num_tokens - begin);
    for (const PlanStep& step : steps) {
      StepCost cost = CostOf(step, tokens, profile);
      if (begin > 0 && weight_bytes() <= profile.l3_bytes) {
        cost.activation_bytes += cost.weight_bytes;
        cost.weight_bytes = 0;
      }
      seconds += cost.Seconds(profile);
      total.bytes += cost.weight_bytes + cost.activation_bytes;
      for (const PlanProduct& p : step.products)
        total.flops += 2 * tokens * p.multiply_adds_per_token();
    }
  }
  total.microseconds = seconds * 1e6;
  return total;
}

}  // namespace rankine
