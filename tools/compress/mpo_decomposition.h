// A matrix as a matrix product operator: in the Frobenius norm in canonical form (CompactifAI,
// Tomut et al. 2024, arXiv 2401.14109), or near the least error under the second moments of its
// input.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/compress/linalg.h"
#include "tools/compress/mpo_shape.h"
#include "tools/compress/tensor_train.h"

namespace rankine {

// Cores of W [m, n] with no bond above `bond`: as TensorTrainSvd, of ToSites.
absl::StatusOr<TensorTrain> DecomposeMpo(const Matrix64& w, const MpoShape& shape, int64_t bond);

// kUnimplemented: the weighted fit has more than 8192 unknowns for each output of the first site,
// in_1 x_1; its cost grows with their cube.
absl::Status CheckMpoFit(const MpoShape& shape, int64_t bond);

// Cores with a small ||(W - W') H^1/2||_F. There is no closed form where both sites have inputs, as
// H mixes them: the cores are those of DecomposeMpo, and the first one is then fitted to the others
// by least squares under H, out_1 systems of the same (in_1 x_1)^2 matrix. So the result is the
// best for its other cores, and never worse than the unweighted sweep in this norm.
// kInvalidArgument: moments that are zero or do not fit. Errors of CheckMpoFit.
absl::StatusOr<std::vector<Tensor64>> DecomposeMpoUnder(const Matrix64& w, const Matrix64& h,
                                                        const MpoShape& shape, int64_t bond);

// The matrix of the cores.
Matrix64 MpoProduct(const std::vector<Tensor64>& cores, const MpoShape& shape);

}  // namespace rankine
