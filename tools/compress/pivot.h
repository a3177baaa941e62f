// The pivoted form of a matrix of rank r (PIFA, "pivoting factorization", arXiv 2501.19090): P
// holds r of its rows as they are, and every other row is a combination of them, C P. So r (m + n -
// r) numbers say what the factors say with r (m + n).
//
// The rows are those that QR with column pivoting of (U S)^T chooses (Golub & Van Loan, section
// 5.4.2): its combinations have coefficients of about one, so that rounding P and C changes the
// product by a few times what rounding U and V did. C is fitted to P as it will be stored, by least
// squares, which takes back a part of P's rounding.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/compress/linalg.h"

namespace rankine {

// W = a v.
struct RankProduct {
  Matrix64 a;  // [m, r]: U S
  Matrix64 v;  // [r, n]
};

struct PivotedMatrix {
  std::vector<int64_t> pivots;  // rows of W, in the order of p
  Matrix64 p, c;                // [r, n]; [m - r, r], the rows in ascending order

  // Where the rows of W stand in [p; c p].
  std::vector<int32_t> RowPositions() const;
};

// Rounds a matrix to what its encoding can hold.
using RoundFn = std::function<absl::Status(Matrix64*)>;

// As many rows as the product has rank, fewer than r where it is deficient. kInvalidArgument: a
// value that is not finite. kFailedPrecondition: W is zero, or has full row rank.
absl::StatusOr<std::vector<int64_t>> ChoosePivots(const RankProduct& w);

// P is as `round` leaves it, C is not yet rounded. Requires rows that ChoosePivots chose. An error
// is that of `round`.
absl::StatusOr<PivotedMatrix> PivotAt(const RankProduct& w, std::vector<int64_t> pivots,
                                      const RoundFn& round);

// ||[p; c p] - W||_F / ||W||_F, rows in place.
double PivotError(const RankProduct& w, const PivotedMatrix& pivoted);

}  // namespace rankine
