#include "tools/compress/methods/budget.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "models/encode/block_storage.h"

namespace rankine {
namespace {

int64_t BitsAt(int64_t r, int64_t m, int64_t n, const Encoding& encoding, int64_t extra) {
  return FactorBits(r, m, n, encoding) + 32 * extra;
}

}  // namespace

int64_t CoreBits(const Encoding& encoding, int64_t rows, int64_t cols) {
  if (encoding.IsFloat()) return 8 * static_cast<int64_t>(SizeOf(encoding.dtype)) * rows * cols;
  return 8 * StoredBytes(encoding, rows, cols);
}

int64_t FactorBits(int64_t r, int64_t m, int64_t n, const Encoding& encoding) {
  return CoreBits(encoding, m, r) + CoreBits(encoding, r, n) + 32 * r;
}

absl::StatusOr<int64_t> RankWithin(const Budget& budget, int64_t m, int64_t n,
                                   const Encoding& encoding, int64_t extra) {
  const int64_t most = std::min(m, n);
  if (budget.rank != 0) {
    if (budget.rank >= 1 && budget.rank <= most) return budget.rank;
    return absl::InvalidArgumentError(absl::StrCat("rank ", budget.rank, " is outside [1, ", most,
                                                   "] of a ", m, " x ", n, " matrix"));
  }
  const auto dense = static_cast<double>(m) * static_cast<double>(n);
  // As floats, factors of as many numbers are better as one matrix.
  const int64_t smaller = (m * n - 1) / (m + n);
  int64_t rank = encoding.IsFloat() ? std::min(most, smaller) : most;
  if (rank == 0) return 0;
  if (budget.parameters > 0) {
    if (budget.parameters >= dense && budget.bits <= 0) return 0;
    const double left =
        (budget.parameters - static_cast<double>(extra)) / static_cast<double>(m + n);
    rank = std::min(rank, static_cast<int64_t>(std::floor(std::max(left, 0.0))));
  }
  if (budget.bits > 0) {
    // Bits rise with the rank, by steps where U's groups do.
    int64_t low = 0, high = rank;
    while (low < high) {
      const int64_t middle = (low + high + 1) / 2;
      const bool fits = static_cast<double>(BitsAt(middle, m, n, encoding, extra)) <= budget.bits;
      fits ? low = middle : high = middle - 1;
    }
    rank = low;
  }
  if (rank < 1) {
    const double least = static_cast<double>(m + n + extra) / dense;
    return absl::InvalidArgumentError(
        absl::StrCat("the budget is below one slice of a ", m, " x ", n, " matrix: ", m + n + extra,
                     " numbers, ", least, " of the dense ones, ", BitsAt(1, m, n, encoding, extra),
                     " bits; raise it, or leave the linear out with --skip"));
  }
  const int64_t multiple = std::max<int64_t>(budget.rank_multiple, 1);
  if (rank >= multiple) rank -= rank % multiple;
  return rank;
}

int64_t RankFromKeep(double keep, int64_t m, int64_t n) {
  if (keep >= 1) return 0;
  const auto dense = static_cast<double>(m) * static_cast<double>(n);
  const auto rank = static_cast<int64_t>(std::floor(keep * dense / static_cast<double>(m + n)));
  const int64_t r = std::max<int64_t>(rank, 1);
  return static_cast<double>(r) * static_cast<double>(m + n) < dense ? r : 0;
}

}  // namespace rankine
