// Everything goes through the left singular vectors U: once they are known, both approximations are
// U U^T W. Where W is wide they are the eigenvectors of the m x m Gram matrix; where it is tall the
// n x n side is cheaper: its eigenvectors Q give Y = W H^1/2 Q = U S, and a QR of Y restores the
// orthogonality that dividing small columns by their length would lose.
#include "tools/compress/linalg.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "Eigen/Cholesky"
#include "Eigen/Core"
#include "Eigen/QR"
#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "tools/compress/eigen_views.h"
#include "tools/compress/symmetric_eigen.h"

namespace rankine {
namespace {

// Below this share of s_1 the square root of an f64 quadratic form has no digit left.
constexpr double kResolvedShare = 1e-8;

Eigen::Map<const Eigen::VectorXd> VectorOf(const std::vector<double>& values) {
  return Eigen::Map<const Eigen::VectorXd>(values.data(), static_cast<int64_t>(values.size()));
}

absl::Status CheckArguments(const Matrix64& w, int64_t rank) {
  if (rank < 1 || rank > std::min(w.rows, w.cols)) {
    return absl::InvalidArgumentError(absl::StrCat("rank ", rank, " is outside [1, ",
                                                   std::min(w.rows, w.cols), "] of a ", w.rows,
                                                   " x ", w.cols, " matrix"));
  }
  return CheckFinite(w);
}

Matrix64 Copy(const ColMajor& symmetric) {
  Matrix64 m(symmetric.rows(), symmetric.cols());
  View(m) = symmetric;
  return m;
}

absl::Status CheckMoments(const Matrix64& w, const Matrix64& h) {
  if (h.rows == w.cols && h.cols == w.cols) return CheckFinite(h);
  return absl::InvalidArgumentError(absl::StrCat("second moments of ", h.rows, " x ", h.cols,
                                                 " do not fit a ", w.rows, " x ", w.cols,
                                                 " matrix"));
}

// Eigenvectors of the r largest eigenvalues of a symmetric matrix, largest first [n, r].
absl::StatusOr<ColMajor> LargestEigenvectors(const ColMajor& symmetric, int64_t r) {
  auto eigen = LargestEigen(Copy(symmetric), r);
  if (!eigen.ok()) return eigen.status();
  return ColMajor(View(eigen->vectors).transpose());
}

// L with L L^T = h: Cholesky, or eigenvectors times root eigenvalues where h is singular. Rounding
// makes eigenvalues that are zero slightly negative; they count as zero.
absl::StatusOr<ColMajor> SquareRoot(const ColMajor& h) {
  const Eigen::LLT<ColMajor> cholesky(h);
  if (cholesky.info() == Eigen::Success) return ColMajor(cholesky.matrixL());
  auto eigen = LargestEigen(Copy(h), h.rows());
  if (!eigen.ok()) return eigen.status();
  const Eigen::VectorXd roots = VectorOf(eigen->values).cwiseMax(0.0).cwiseSqrt();
  return ColMajor(View(eigen->vectors).transpose() * roots.asDiagonal());
}

// Falling; rounding below zero is zero.
absl::StatusOr<std::vector<double>> EigenvaluesOf(const ColMajor& symmetric) {
  auto eigen = LargestEigen(Copy(symmetric), 0);
  if (!eigen.ok()) return eigen.status();
  for (double& value : eigen->values) value = std::max(value, 0.0);
  return std::move(eigen->values);
}

// The r first left singular vectors of a tall y = W H^1/2, from its n x n Gram matrix.
absl::StatusOr<ColMajor> LeftVectorsOfTall(const ColMajor& y, int64_t r) {
  const ColMajor gram = y.transpose() * y;
  const auto right = LargestEigenvectors(gram, r);
  if (!right.ok()) return right.status();
  const Eigen::HouseholderQR<ColMajor> qr(y * *right);
  return ColMajor(qr.householderQ() * ColMajor::Identity(y.rows(), r));
}

// gram^+ wanted: directions of the Gram matrix below kSmallestShare of the largest count as zero.
absl::StatusOr<ColMajor> SolveGram(const ColMajor& gram, const ColMajor& wanted) {
  const Eigen::LLT<ColMajor> cholesky(gram);
  const bool well_posed = cholesky.info() == Eigen::Success && cholesky.rcond() > kSmallestShare;
  if (well_posed) return ColMajor(cholesky.solve(wanted));
  auto eigen = LargestEigen(Copy(gram), gram.rows());
  if (!eigen.ok()) return eigen.status();
  Eigen::VectorXd inverse = VectorOf(eigen->values);
  const double floor = kSmallestShare * std::max(inverse[0], 0.0);
  for (double& value : inverse) value = value > floor ? 1 / value : 0;
  const auto vectors = View(eigen->vectors);
  return ColMajor(vectors.transpose() * (inverse.asDiagonal() * (vectors * wanted)));
}

// Orders the slices by falling length; ties keep their place.
void SortSlices(const Eigen::VectorXd& lengths, ColMajor* u, RowMajor* b, std::vector<double>* s) {
  std::vector<int64_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t c) { return lengths[a] > lengths[c]; });
  ColMajor sorted_u(u->rows(), u->cols());
  RowMajor sorted_b(b->rows(), b->cols());
  s->resize(order.size());
  for (size_t k = 0; k < order.size(); ++k) {
    sorted_u.col(k) = u->col(order[k]);
    sorted_b.row(k) = b->row(order[k]);
    (*s)[k] = lengths[order[k]];
  }
  u->swap(sorted_u);
  b->swap(sorted_b);
}

// Factors of U (U^T W), given the lengths of the slices b = U^T W in the norm of choice. Lengths
// below `floor` times the largest are raised to it.
SvdFactors MakeFactors(ColMajor u, RowMajor b, const Eigen::VectorXd& lengths, double floor) {
  SvdFactors f;
  SortSlices(lengths, &u, &b, &f.s);
  for (int64_t k = 0; k < b.rows(); ++k) {
    f.s[k] = std::max(f.s[k], floor * f.s[0]);
    if (f.s[k] > 0) b.row(k) /= f.s[k];
  }
  f.u = Matrix64(u.rows(), u.cols());
  View(f.u) = u;
  f.v = Matrix64(b.rows(), b.cols());
  View(f.v) = b;
  return f;
}

// WeightedSvd of checked arguments. wh = W H; may be null where W is tall.
absl::StatusOr<SvdFactors> WeightedSvdOf(const Matrix64& w, const Matrix64* wh, const Matrix64& h,
                                         int64_t rank) {
  const auto view = View(w);
  absl::StatusOr<ColMajor> u;
  if (w.rows <= w.cols) {
    u = LargestEigenvectors(View(*wh) * view.transpose(), rank);
  } else {
    const auto root = SquareRoot(View(h));
    if (!root.ok()) return root.status();
    u = LeftVectorsOfTall(view * *root, rank);
  }
  if (!u.ok()) return u.status();
  RowMajor b = u->transpose() * view;
  const RowMajor bh = wh != nullptr ? RowMajor(u->transpose() * View(*wh)) : RowMajor(b * View(h));
  const Eigen::VectorXd lengths = bh.cwiseProduct(b).rowwise().sum().cwiseMax(0.0).cwiseSqrt();
  if (lengths.maxCoeff() == 0 && view.squaredNorm() > 0) {
    return absl::InvalidArgumentError(
        "the calibration text never excites this matrix: its weighted output is zero");
  }
  return MakeFactors(*std::move(u), std::move(b), lengths, kResolvedShare);
}

}  // namespace

absl::Status CheckFinite(const Matrix64& a) {
  for (size_t i = 0; i < a.values.size(); ++i) {
    if (!std::isfinite(a.values[i])) {
      return absl::InvalidArgumentError(
          absl::StrCat("the value at row ", i / a.cols, ", column ", i % a.cols, " is not finite"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<SvdFactors> TruncatedSvd(const Matrix64& w, int64_t rank) {
  if (auto status = CheckArguments(w, rank); !status.ok()) return status;
  const auto view = View(w);
  auto u = w.rows <= w.cols ? LargestEigenvectors(view * view.transpose(), rank)
                            : LeftVectorsOfTall(view, rank);
  if (!u.ok()) return u.status();
  RowMajor b = u->transpose() * view;
  const Eigen::VectorXd lengths = b.rowwise().norm();
  return MakeFactors(*std::move(u), std::move(b), lengths, 0);
}

absl::StatusOr<SvdFactors> WeightedSvd(const Matrix64& w, const Matrix64& h, int64_t rank) {
  if (auto status = CheckArguments(w, rank); !status.ok()) return status;
  if (auto status = CheckMoments(w, h); !status.ok()) return status;
  // Of a tall W only what is kept of it is multiplied by H.
  if (w.rows > w.cols) return WeightedSvdOf(w, nullptr, h, rank);
  const Matrix64 wh = MatrixProduct(w, h);
  return WeightedSvdOf(w, &wh, h, rank);
}

absl::StatusOr<SvdFactors> WeightedSvd(const Matrix64& w, const Matrix64& wh, const Matrix64& h,
                                       int64_t rank) {
  if (auto status = CheckArguments(w, rank); !status.ok()) return status;
  if (auto status = CheckMoments(w, h); !status.ok()) return status;
  RK_CHECK(wh.rows == w.rows && wh.cols == w.cols);
  return WeightedSvdOf(w, &wh, h, rank);
}

absl::StatusOr<std::vector<double>> SquaredSingularValues(const Matrix64& w, const Matrix64* h) {
  if (auto status = CheckFinite(w); !status.ok()) return status;
  const auto view = View(w);
  ColMajor gram;
  if (h == nullptr) {
    gram = w.rows <= w.cols ? ColMajor(view * view.transpose()) : ColMajor(view.transpose() * view);
  } else {
    if (auto status = CheckFinite(*h); !status.ok()) return status;
    const ColMajor moments = View(*h);
    if (w.rows <= w.cols) {
      const ColMajor wh = view * moments;
      gram = wh * view.transpose();
    } else {
      const auto root = SquareRoot(moments);
      if (!root.ok()) return root.status();
      const ColMajor y = view * *root;
      gram = y.transpose() * y;
    }
  }
  return EigenvaluesOf(gram);
}

absl::StatusOr<std::vector<double>> Eigenvalues(const Matrix64& symmetric) {
  RK_CHECK(symmetric.rows == symmetric.cols);
  return EigenvaluesOf(View(symmetric));
}

absl::StatusOr<Matrix64> RootOf(const Matrix64& h) {
  RK_CHECK(h.rows == h.cols);
  const auto root = SquareRoot(View(h));
  if (!root.ok()) return root.status();
  Matrix64 l(h.rows, h.cols);
  View(l) = *root;
  return l;
}

Matrix64 Identity(int64_t n) {
  Matrix64 m(n, n);
  for (int64_t i = 0; i < n; ++i) m(i, i) = 1;
  return m;
}

Matrix64 Transposed(const Matrix64& a) {
  Matrix64 t(a.cols, a.rows);
  View(t) = View(a).transpose();
  return t;
}

Matrix64 MatrixProduct(const Matrix64& a, const Matrix64& b) {
  RK_CHECK(a.cols == b.rows);
  Matrix64 c(a.rows, b.cols);
  View(c).noalias() = View(a) * View(b);
  return c;
}

absl::StatusOr<Matrix64> SolveSymmetric(const Matrix64& gram, const Matrix64& target) {
  RK_CHECK(gram.rows == gram.cols && target.cols == gram.rows);
  const auto u = SolveGram(View(gram), View(target).transpose());
  if (!u.ok()) return u.status();
  Matrix64 solution(target.rows, gram.rows);
  View(solution) = u->transpose();
  return solution;
}

absl::StatusOr<Matrix64> FitLeft(const Matrix64& target, const Matrix64& v, const Matrix64& h) {
  RK_CHECK(target.cols == h.rows && v.cols == h.rows);
  for (const Matrix64* m : {&target, &v, &h}) {
    if (auto status = CheckFinite(*m); !status.ok()) return status;
  }
  const ColMajor vh = View(v) * View(h);
  const auto u = SolveGram(vh * View(v).transpose(), View(v) * View(target).transpose());
  if (!u.ok()) return u.status();
  Matrix64 left(target.rows, v.rows);
  View(left) = u->transpose();
  return left;
}

absl::StatusOr<Matrix64> FitRight(const Matrix64& w, const Matrix64& u) {
  RK_CHECK(w.rows == u.rows);
  for (const Matrix64* m : {&w, &u}) {
    if (auto status = CheckFinite(*m); !status.ok()) return status;
  }
  const auto v = SolveGram(View(u).transpose() * View(u), View(u).transpose() * View(w));
  if (!v.ok()) return v.status();
  Matrix64 right(u.cols, w.cols);
  View(right) = *v;
  return right;
}

absl::StatusOr<Matrix64> RidgeMap(const Matrix64& target, const Matrix64& w, const Matrix64& h,
                                  double damp) {
  RK_CHECK(damp > 0 && target.cols == h.rows && w.cols == h.rows);
  ColMajor damped = View(h);
  damped.diagonal().array() += damp;
  const Eigen::LLT<ColMajor> cholesky(damped);
  if (cholesky.info() != Eigen::Success) {
    return absl::InvalidArgumentError("the second moments are not positive semidefinite");
  }
  const ColMajor wanted = View(target) + damp * View(w);
  Matrix64 map(w.rows, w.cols);
  View(map) = cholesky.solve(wanted.transpose()).transpose();
  return map;
}

Matrix64 ProductOf(const SvdFactors& f) {
  Matrix64 w(f.u.rows, f.v.cols);
  const Eigen::Map<const Eigen::VectorXd> s(f.s.data(), static_cast<int64_t>(f.s.size()));
  View(w).noalias() = (View(f.u) * s.asDiagonal()) * View(f.v);
  return w;
}

Matrix64 Difference(const Matrix64& a, const Matrix64& b) {
  RK_CHECK(a.rows == b.rows && a.cols == b.cols);
  Matrix64 d(a.rows, a.cols);
  View(d) = View(a) - View(b);
  return d;
}

double SquaredNorm(const Matrix64& a) { return View(a).squaredNorm(); }

double SquaredWeightedNorm(const Matrix64& a, const Matrix64& h) {
  RK_CHECK(h.rows == a.cols && h.cols == a.cols);
  const RowMajor ah = View(a) * View(h);
  return std::max(0.0, ah.cwiseProduct(View(a)).sum());
}

}  // namespace rankine
