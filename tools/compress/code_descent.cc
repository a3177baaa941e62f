#include "tools/compress/code_descent.h"

#include <algorithm>
#include <array>
#include <utility>

#include "Eigen/Cholesky"
#include "Eigen/Core"
#include "kernels/base/check.h"
#include "kernels/base/e8p.h"
#include "tools/compress/block_rounder.h"
#include "tools/compress/eigen_views.h"

namespace rankine {
namespace {

constexpr int64_t kMostColumns = kE8PColumns;  // of one codeword

using Codeword = std::array<double, kMostColumns>;

class Descent {
 public:
  // `rounder` has rounded w to `values`.
  Descent(const Matrix64& w, const Matrix64& h, BlockRounder* rounder, Matrix64* values)
      : h_(h),
        width_(rounder->width()),
        rounder_(rounder),
        values_(values),
        gradient_(MatrixProduct(Difference(w, *values), h)),
        inverses_(h.rows, width_) {
    RK_CHECK(h.rows == w.cols && h.cols == w.cols && width_ <= kMostColumns);
    for (int64_t col = 0; col < h.cols; col += width_) {
      const ColMajor block = View(h).block(col, col, width_, width_);
      View(inverses_).middleRows(col, width_) =
          block.llt().solve(ColMajor::Identity(width_, width_));
    }
  }

  // Rows do not depend on each other: one after another, each stays in the cache.
  void Run(int64_t passes) {
    for (int64_t row = 0; row < values_->rows; ++row) {
      for (int64_t pass = 0; pass < passes && Pass(row); ++pass) {
      }
    }
  }

 private:
  static void Add(double factor, const double* from, int64_t count, double* to) {
    for (int64_t i = 0; i < count; ++i) to[i] += factor * from[i];
  }

  // Whether any code changed.
  bool Pass(int64_t row) {
    bool changed = false;
    for (int64_t col = 0; col < h_.cols; col += width_) changed |= Try(row, col);
    return changed;
  }

  // Takes the codeword nearest to the block's least error if it lowers the error.
  bool Try(int64_t row, int64_t col) {
    double* stored = values_->Row(row) + col;
    Codeword wanted, rounded, change;  // change: of E
    std::copy_n(stored, width_, wanted.begin());
    const double* gradient = gradient_.Row(row) + col;
    for (int64_t i = 0; i < width_; ++i)
      Add(gradient[i], inverses_.Row(col + i), width_, wanted.data());
    rounder_->Round(row, col, wanted.data(), rounded.data());
    if (std::equal(stored, stored + width_, rounded.begin())) return false;
    for (int64_t i = 0; i < width_; ++i) change[i] = stored[i] - rounded[i];
    if (!(ErrorChange(row, col, change) < 0)) {
      rounder_->Round(row, col, stored, rounded.data());
      return false;
    }
    std::copy_n(rounded.begin(), width_, stored);
    for (int64_t i = 0; i < width_; ++i) {
      Add(change[i], h_.Row(col + i), h_.cols, gradient_.Row(row));
    }
    return true;
  }

  double ErrorChange(int64_t row, int64_t col, const Codeword& change) const {
    double sum = 0;
    for (int64_t i = 0; i < width_; ++i) {
      const double* h = h_.Row(col + i) + col;
      double product = 2 * gradient_(row, col + i);
      for (int64_t j = 0; j < width_; ++j) product += h[j] * change[j];
      sum += change[i] * product;
    }
    return sum;
  }

  const Matrix64& h_;
  const int64_t width_;
  BlockRounder* rounder_;
  Matrix64* values_;
  Matrix64 gradient_;  // (W - Q) H
  Matrix64 inverses_;  // [n, width]: H_kk^-1 of each block
};

}  // namespace

void DescendCodes(const Matrix64& w, const Matrix64& h, int64_t passes, const Encoding& encoding,
                  RoundedMatrix* q) {
  if (passes == 0) return;
  BlockRounder rounder = BlockRounder::Resume(encoding, std::move(q->codes));
  Descent(w, h, &rounder, &q->values).Run(passes);
  q->codes = rounder.TakeCodes();
}

}  // namespace rankine
