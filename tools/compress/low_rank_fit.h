// L R nearest to a residual E under the inputs' second moments, both as they are stored: the L R of
// Q + L R (QERA, arXiv 2410.06040; CALDERA, arXiv 2405.18886, algorithm 2).
//
// Unrounded, the answer is the weighted SVD. Rounded, its two halves are fitted in turn, each to
// the other as stored: R to L under H (each row by LDLQ on H), L to R (each row by LDLQ on
// R H R^T), so that the second takes up what rounding the first has lost.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/base/encoding.h"
#include "tools/compress/ldlq.h"
#include "tools/compress/linalg.h"

namespace rankine {

// Share of the mean diagonal added for the LDLQ by which L and R are rounded: enough that a feature
// which the text never shows does no harm.
inline constexpr double kFactorsDamping = 0.01;

struct LowRank {
  RoundedMatrix left;   // L [m, r]
  RoundedMatrix right;  // R [r, n]
};

struct LowRankOptions {
  int64_t rank = 1;
  Encoding encoding;                 // of both
  int64_t rounds = 4;                // of fitting one after the other; the best is kept
  double damping = kFactorsDamping;  // of LDLQ on R H R^T
  // Of H, of width LdlWidth(encoding); null: R is rounded to the nearest.
  const LdlFactors* ldl = nullptr;
};

// The best found of ||(E - L R) H^1/2||_F. kInvalidArgument as WeightedSvd (an E that is zero gives
// zeros), and what RoundMatrix refuses.
absl::StatusOr<LowRank> FitLowRank(const Matrix64& e, const Matrix64& h,
                                   const LowRankOptions& options);

// The same, with eh = E H known.
absl::StatusOr<LowRank> FitLowRank(const Matrix64& e, const Matrix64& eh, const Matrix64& h,
                                   const LowRankOptions& options);

// What taking L R off E changes of ||E H^1/2||_F^2, by products of rank r, which cost less than the
// m x n x n one of the norm; eh = E H.
double ErrorChange(const LowRank& factors, const Matrix64& eh, const Matrix64& h);

// L R.
Matrix64 ProductOf(const LowRank& factors);

}  // namespace rankine
