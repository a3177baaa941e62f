// Householder reflections make the matrix tridiagonal, divide and conquer solves that
// (tridiagonal_eigen.h), and the reflections turn its vectors back. Reflections go in panels
// (Dongarra, Sorensen & Hammarling, J. Comput. Appl. Math. 27, 1989): within one, what they do to
// the rest of the matrix is kept as A - V W^T - W V^T, so that half of the work is a matrix product
// and each column reads the rest once.
#include "tools/compress/symmetric_eigen.h"

#include <algorithm>
#include <utility>

#include "Eigen/Core"
#include "Eigen/Householder"
#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/eigen_views.h"
#include "tools/compress/tridiagonal_eigen.h"

namespace rankine {
namespace {

using Eigen::VectorXd;
using Columns = Eigen::Map<ColMajor>;

// Reflections of a panel: a product over 64 summed columns runs near the full speed, and the thin
// products within a panel, which grow with it, are still small beside the rest.
constexpr int64_t kPanel = 64;
// Columns of the rest that are updated by one product: what is done above the diagonal is wasted.
constexpr int64_t kUpdateColumns = 256;

class Tridiagonalisation {
 public:
  // Works in `a` [n, n], whose strict upper triangle is not read.
  explicit Tridiagonalisation(Columns a)
      : a_(a), n_(a.rows()), w_(n_, kPanel), taus_(std::max<int64_t>(n_ - 1, 0)) {
    diagonal.resize(n_);
    off.resize(taus_.size());
    for (int64_t first = 0; first < n_ - 1; first += kPanel) {
      const int64_t count = std::min(kPanel, n_ - 1 - first);
      for (int64_t j = 0; j < count; ++j) Reflect(first, j);
      UpdateRest(first, count);
    }
    diagonal[n_ - 1] = a_(n_ - 1, n_ - 1);
  }

  // The reflections on vectors of the tridiagonal matrix, in place: [n, count].
  void TurnBack(Columns vectors) const {
    Eigen::HouseholderSequence<Columns, VectorXd>(a_, taus_)
        .setLength(n_ - 1)
        .setShift(1)
        .applyThisOnTheLeft(vectors);
  }

  std::vector<double> diagonal, off;

 private:
  // Column first + j of the panel that begins at `first`.
  void Reflect(int64_t first, int64_t j) {
    const int64_t column = first + j, below = n_ - column - 1;
    auto rest = a_.col(column).tail(below + 1);
    const auto v = a_.block(column, first, below + 1, j);
    const auto w = w_.block(column, 0, below + 1, j);
    rest.noalias() -= v * w.row(0).transpose();
    rest.noalias() -= w * v.row(0).transpose();
    diagonal[column] = rest[0];
    auto reflection = a_.col(column).tail(below);
    reflection.makeHouseholderInPlace(taus_[column], off[column]);
    reflection[0] = 1;  // off has what stood there
    w_.col(j).tail(below) = Image(first, j, reflection);
  }

  // w of the update v w^T + w v^T by reflection v: p - (tau / 2) (p v) v with p = tau A v.
  VectorXd Image(int64_t first, int64_t j, const Eigen::Ref<const VectorXd>& reflection) const {
    const int64_t below = reflection.size(), begin = n_ - below;
    const double tau = taus_[first + j];
    const auto v = a_.block(begin, first, below, j);
    const auto w = w_.block(begin, 0, below, j);
    VectorXd p =
        a_.bottomRightCorner(below, below).selfadjointView<Eigen::Lower>() * (tau * reflection);
    const VectorXd by_w = tau * (w.transpose() * reflection);
    const VectorXd by_v = tau * (v.transpose() * reflection);
    p.noalias() -= v * by_w;
    p.noalias() -= w * by_v;
    p -= 0.5 * tau * p.dot(reflection) * reflection;
    return p;
  }

  void UpdateRest(int64_t first, int64_t count) {
    const int64_t begin = first + count, size = n_ - begin;
    ColMajor left(size, 2 * count), right(size, 2 * count);
    left << a_.block(begin, first, size, count), w_.block(begin, 0, size, count);
    right << left.rightCols(count), left.leftCols(count);
    for (int64_t c = 0; c < size; c += kUpdateColumns) {
      const int64_t columns = std::min(kUpdateColumns, size - c);
      a_.block(begin + c, begin + c, size - c, columns).noalias() -=
          left.bottomRows(size - c) * right.middleRows(c, columns).transpose();
    }
  }

  Columns a_;
  const int64_t n_;
  ColMajor w_;  // of the panel; rows as a
  VectorXd taus_;
};

}  // namespace

absl::StatusOr<SymmetricEigen> LargestEigen(Matrix64 symmetric, int64_t wanted) {
  const int64_t n = symmetric.rows;
  RK_CHECK(n >= 1 && symmetric.cols == n && wanted >= 0 && wanted <= n);
  Tridiagonalisation tridiagonal(Columns(symmetric.values.data(), n, n));
  RK_ASSIGN_OR_RETURN(TridiagonalEigen eigen, SolveTridiagonal(std::move(tridiagonal.diagonal),
                                                               std::move(tridiagonal.off), wanted));
  if (wanted > 0) tridiagonal.TurnBack(Columns(eigen.vectors.values.data(), n, wanted));
  SymmetricEigen result{.values = std::move(eigen.values), .vectors = Matrix64(wanted, n)};
  std::reverse(result.values.begin(), result.values.end());
  for (int64_t k = 0; k < wanted; ++k) {
    std::copy_n(eigen.vectors.Row(wanted - 1 - k), n, result.vectors.Row(k));
  }
  return result;
}

}  // namespace rankine
