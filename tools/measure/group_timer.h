// How long a group takes: what stands beside the planner's predictions.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "runtime/factor/linear_group.h"

namespace rankine {

// Median seconds of Run for `num_tokens` rows of random input. Before each run the caches are
// filled with other data, as they are when a model's pass comes back to a layer.
absl::StatusOr<double> MeasureGroup(Device& device, const LinearGroup& group, int64_t num_tokens,
                                    int repeats = 7);

}  // namespace rankine
