// The matrix that a FactoredMatrix stands for, multiplied out.
#pragma once

#include "absl/status/statusor.h"
#include "kernels/cpu/thread_pool.h"
#include "models/checkpoint/checkpoint.h"
#include "tools/compress/linalg.h"

namespace rankine {

// W [out_features, in_features] in f64: cores decoded, terms multiplied out and summed, transforms
// applied, so that y = W x + bias is what the factors compute but for rounding. The bias is not
// part of it. Errors name the tensor: a value that is not finite.
absl::StatusOr<Matrix64> DenseWeight(const Checkpoint& checkpoint, const FactoredMatrix& matrix,
                                     ThreadPool& pool);

}  // namespace rankine
