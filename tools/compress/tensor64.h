// Tensors of any order in f64, and the operations that tensor decompositions are made of (Kolda &
// Bader, SIAM Review 51(3), 2009). Modes count from 0; values lie with the last mode fastest.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "tools/compress/linalg.h"

namespace rankine {

// A tensor that owns its numbers.
struct Tensor64 {
  Tensor64() = default;
  explicit Tensor64(std::vector<int64_t> sizes);
  // The same numbers in the same order. Requires as many as the sizes multiply to.
  Tensor64(std::vector<int64_t> sizes, std::vector<double> numbers);

  size_t order() const { return extents.size(); }
  // Numbers for each index of `mode`: the product of the other extents.
  int64_t NumbersPerSlice(size_t mode) const;

  std::vector<int64_t> extents;
  std::vector<double> values;
};

// The tensor with mode modes[k] of `t` as its k-th: Permuted(t, {1, 0}) transposes a matrix.
Tensor64 Permuted(const Tensor64& t, absl::Span<const size_t> modes);

// [extent of `mode`, the rest]; the columns run over the other modes in their order, the last
// fastest.
Matrix64 Unfold(const Tensor64& t, size_t mode);
// The inverse: `extents` are those of the result, extents[mode] = unfolding.rows.
Tensor64 Fold(const Matrix64& unfolding, size_t mode, const std::vector<int64_t>& extents);

// t x_mode m: sums `mode` of t with the columns of m [r, extent of `mode`], which leaves r there.
Tensor64 ModeProduct(const Tensor64& t, size_t mode, const Matrix64& m);

double SquaredNorm(const Tensor64& t);

}  // namespace rankine
