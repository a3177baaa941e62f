// Reads the vectors of a group (scales, biases, signs, blocks of transforms) and its index lists.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/factor/group_layout.h"
#include "runtime/factor/tensor_source.h"

namespace rankine {

absl::StatusOr<std::vector<float>> ReadVector(absl::Span<const FactoredMatrix> matrices,
                                              const VectorRecipe& recipe,
                                              const TensorSource& source);

// kInvalidArgument names the tensor when its indices are not a permutation.
absl::StatusOr<std::vector<int32_t>> ReadIndices(const IndexRecipe& recipe,
                                                 const TensorSource& source);

}  // namespace rankine
