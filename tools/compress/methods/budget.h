// How large the stored form of a weight may be.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/base/encoding.h"

namespace rankine {

// Limits that are 0 do not bind; at least one does. Methods take the largest form within all of
// them.
struct Budget {
  int64_t rank = 0;       // the size of every bond, exactly
  double parameters = 0;  // numbers of the cores (SizeOfStored)
  double bits = 0;        // everything counted
  // Ranks chosen from parameters or bits are multiples of it, where that leaves at least one
  // multiple; an explicit rank is taken as it is.
  int64_t rank_multiple = 1;
};

// The largest r of two factors U [m, r], V [r, n] in `encoding` (and S [r] in f32) within the
// budget, with `extra` more numbers in f32 beside them (a new bias); as floats, with fewer numbers
// than the dense matrix. 0: better left dense, as the budget's parameters hold it whole, or no rank
// has fewer numbers.
// kInvalidArgument: less than one slice, or an explicit rank outside [1, min(m, n)].
absl::StatusOr<int64_t> RankWithin(const Budget& budget, int64_t m, int64_t n,
                                   const Encoding& encoding, int64_t extra = 0);

// Bits of a core in `encoding`, everything counted.
int64_t CoreBits(const Encoding& encoding, int64_t rows, int64_t cols);

// Bits of U [m, r] and V [r, n] in `encoding` and S [r] in f32.
int64_t FactorBits(int64_t r, int64_t m, int64_t n, const Encoding& encoding);

// The rank whose two factors hold at most `keep` of the parameters of an m x n matrix:
// floor(keep m n / (m + n)), at least 1. 0 when the matrix is better left dense: keep = 1, or
// r (m + n) >= m n.
int64_t RankFromKeep(double keep, int64_t m, int64_t n);

}  // namespace rankine
