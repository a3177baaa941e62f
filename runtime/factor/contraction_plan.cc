#include "runtime/factor/contraction_plan.h"

#include <algorithm>

namespace rankine {

int64_t ContractionPlan::weight_bytes() const {
  int64_t total = 0;
  for (const PlanStep& step : steps) {
    for (const PlanProduct& p : step.products) total += p.weight_bytes;
  }
  return total;
}

PlanPrediction ContractionPlan::Predict(int64_t num_tokens, const DeviceProfile& profile) const {
  PlanPrediction total;
  double seconds = 0;
  for (const PlanStep& step : steps) {
    int64_t bytes = 0, flops = 0;
    for (const PlanProduct& p : step.products) {
      const int64_t out_size =
          p.y == Slot::kIntermediate ? static_cast<int64_t>(SizeOf(compute)) : 4;
      bytes += p.weight_bytes +
               num_tokens * (p.k * static_cast<int64_t>(SizeOf(compute)) + p.n * out_size);
      flops += 2 * num_tokens * p.n * p.k;
    }
    seconds += profile.step_seconds +
               std::max(static_cast<double>(bytes) / profile.read_bytes_per_second,
                        static_cast<double>(flops) / profile.flops_per_second(compute));
    total.bytes += bytes;
    total.flops += flops;
  }
  total.microseconds = seconds * 1e6;
  return total;
}

}  // namespace rankine
