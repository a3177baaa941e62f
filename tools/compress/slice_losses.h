// What each slice of each linear of a layer is worth, for allocation policies.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "tools/compress/layer_factorizer.h"

namespace rankine {

// Method::slice_losses of every linear of the input, in order. Errors name the linear.
// Requires a method that has them.
absl::StatusOr<std::vector<std::vector<double>>> SliceLossesOf(const FactorJob& job,
                                                               const LayerInput& input);

}  // namespace rankine
