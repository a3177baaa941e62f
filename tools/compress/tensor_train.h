// Tensor trains (Oseledets, SIAM J. Sci. Comput. 33(5), 2011): a tensor of order K as a chain of K
// cores [x_(k-1), d_k, x_k] that neighbours sum over their bonds x_k.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tools/compress/tensor64.h"

namespace rankine {

struct TensorTrain {
  // [x_(k-1), d_k, x_k], x_0 = x_K = 1. All but the last are left-canonical: their unfolding
  // [x_(k-1) d_k, x_k] has orthonormal columns.
  std::vector<Tensor64> cores;
  // The sum of the squares of all singular values that the sweep dropped.
  double discarded = 0;
};

// The largest bond that a tensor of these extents has after its mode k: the smaller of the products
// of the extents on either side. [K - 1]
std::vector<int64_t> LargestBonds(absl::Span<const int64_t> extents);

// The sweep of successive truncated SVDs from the left: at bond k all but the first bonds[k]
// singular values are dropped. Each core that is split off is orthonormal, so what a later SVD
// drops is orthogonal to what the earlier ones did, and the squared Frobenius error of the whole is
// exactly `discarded` (in exact numbers; rounding is that of f64). For K = 2 the result is the best
// of its bond; beyond that the error is within sqrt(K - 1) of the best.
// kInvalidArgument: a bond outside [1, LargestBonds], or a value that is not finite.
absl::StatusOr<TensorTrain> TensorTrainSvd(const Tensor64& t, absl::Span<const int64_t> bonds);

// The cores summed over all bonds. [d_1, .., d_K]
Tensor64 Contracted(absl::Span<const Tensor64> cores);

}  // namespace rankine
