// Tucker decompositions: a tensor as a core with one orthonormal factor per mode, t' = core x_0 U_0
// x_1 U_1 .. (Kolda & Bader, SIAM Review 51(3), 2009, section 4).
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tools/compress/tensor64.h"

namespace rankine {

struct Tucker {
  std::vector<Matrix64> factors;  // [extent, rank], orthonormal columns
  Tensor64 core;                  // [ranks]
};

// kInvalidArgument: a rank outside [1, extent], or one below the extent and above the product of
// the others, where the core would have slices that nothing fills.
absl::Status CheckRanks(absl::Span<const int64_t> extents, absl::Span<const int64_t> ranks);

// The leading left singular vectors of each unfolding. A mode of full rank keeps its basis: its
// factor is the identity. Errors as CheckRanks and TruncatedSvd.
absl::StatusOr<Tucker> Hosvd(const Tensor64& t, absl::Span<const int64_t> ranks);

struct HooiOptions {
  int max_rounds = 50;
  // Stops when a round keeps no more than this share of |t|^2 beyond the one before.
  double least_gain = 1e-7;
};
// Higher-order orthogonal iteration from the HOSVD: each factor in turn becomes the best for the
// others, so the error never rises. Errors as Hosvd.
absl::StatusOr<Tucker> Hooi(const Tensor64& t, absl::Span<const int64_t> ranks,
                            const HooiOptions& options = {});

Tensor64 TuckerProduct(const Tucker& tucker);

}  // namespace rankine
