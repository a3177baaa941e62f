// Dense linear algebra of the factorisation methods, in f64: truncated SVDs, plain and weighted by
// the second moments of a layer's input, and the norms that errors are stated in. W is [m, n]
// (out x in), H = X X^T / T is [n, n].
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace rankine {

// A row-major matrix that owns its numbers.
struct Matrix64 {
  Matrix64() = default;
  Matrix64(int64_t num_rows, int64_t num_cols)
      : rows(num_rows), cols(num_cols), values(static_cast<size_t>(num_rows * num_cols)) {}

  double* Row(int64_t row) { return values.data() + row * cols; }
  const double* Row(int64_t row) const { return values.data() + row * cols; }
  double& operator()(int64_t row, int64_t col) { return Row(row)[col]; }
  double operator()(int64_t row, int64_t col) const { return Row(row)[col]; }

  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<double> values;
};

// W' = u diag(s) v. The columns of u are orthonormal, s falls.
struct SvdFactors {
  Matrix64 u;             // [m, r]
  std::vector<double> s;  // [r]
  Matrix64 v;             // [r, n]
};

// The best rank-r approximation in the Frobenius norm: W' = U_r (U_r^T W). The rows of v have
// length one, or zero where s is zero. kInvalidArgument: a rank outside [1, min(m, n)], or a value
// that is not finite. kInternal: the eigendecomposition did not converge.
//
// Accuracy: U_r comes from the Gram matrix of the smaller side, so with e = min(m, n) eps its
// subspace is off by e s_1^2 / (s_r^2 - s_(r+1)^2) and s_k by e s_1^2 / s_k; the error of the
// product exceeds the optimum only in second order of that.
absl::StatusOr<SvdFactors> TruncatedSvd(const Matrix64& w, int64_t rank);

// The best rank-r approximation in the norm ||(W - W') H^1/2||_F (SVD-LLM, arXiv 2403.07378): with
// U the left singular vectors of W H^1/2, W' = U_r (U_r^T W). Nothing is inverted, so H may be
// singular and needs no damping. s_k is the singular value of W H^1/2, which is exactly the loss of
// dropping slice k; v = diag(1/s) U^T W, whose rows are not orthonormal. A slice that the
// calibration never saw (s_k below 1e-8 s_1, where f64 no longer resolves it) keeps its weights
// under an s_k raised to that floor.
// Errors as TruncatedSvd, and kInvalidArgument when h is not [n, n] or W H W^T is zero though W is
// not.
absl::StatusOr<SvdFactors> WeightedSvd(const Matrix64& w, const Matrix64& h, int64_t rank);

// The same, with wh = W H known.
absl::StatusOr<SvdFactors> WeightedSvd(const Matrix64& w, const Matrix64& wh, const Matrix64& h,
                                       int64_t rank);

// The squared singular values of W H^1/2, falling: the squared losses of its slices. h null: of W.
// min(m, n) of them. Errors as WeightedSvd.
absl::StatusOr<std::vector<double>> SquaredSingularValues(const Matrix64& w, const Matrix64* h);

// target gram^+, the least-squares answer of normal equations u gram = target [m, k]. gram [k, k]
// is positive semidefinite; its directions below 1e-12 of the largest count as zero. kInternal: the
// eigendecomposition, which a singular gram needs, did not converge.
absl::StatusOr<Matrix64> SolveSymmetric(const Matrix64& gram, const Matrix64& target);

// Eigenvalues of a symmetric positive semidefinite matrix, falling; rounding below zero is zero.
// kInternal: no convergence.
absl::StatusOr<std::vector<double>> Eigenvalues(const Matrix64& symmetric);

// l with l l^T = h, symmetric positive semidefinite: Cholesky's, or eigenvectors times root
// eigenvalues where h is singular. kInternal: no convergence.
absl::StatusOr<Matrix64> RootOf(const Matrix64& h);

// The u that makes u v nearest to the linear map whose products with the inputs are `target` =
// E[y x^T] [m, n]: u = target v^T (v h v^T)^+, which minimises E|y - u v x|^2 where h = E[x x^T].
// Directions of v h v^T below 1e-12 of the largest count as zero. Errors as WeightedSvd.
absl::StatusOr<Matrix64> FitLeft(const Matrix64& target, const Matrix64& v, const Matrix64& h);

// The v that makes u v nearest to w in the Frobenius norm: v = (u^T u)^+ u^T w [r, n], which is
// also the nearest in ||(w - u v) H^1/2||_F for any H. Directions of u^T u below 1e-12 of the
// largest count as zero. Requires u.rows = w.rows. Errors as WeightedSvd.
absl::StatusOr<Matrix64> FitRight(const Matrix64& w, const Matrix64& u);

// (target + damp w) (h + damp I)^-1, the least-squares map from x to y held near `w` where the
// inputs say little; damp > 0 is in the units of h. Requires target, w [m, n], h [n, n].
absl::StatusOr<Matrix64> RidgeMap(const Matrix64& target, const Matrix64& w, const Matrix64& h,
                                  double damp);

// [n, n].
Matrix64 Identity(int64_t n);

// [cols, rows].
Matrix64 Transposed(const Matrix64& a);

// a b. Requires a.cols = b.rows.
Matrix64 MatrixProduct(const Matrix64& a, const Matrix64& b);

// u diag(s) v.
Matrix64 ProductOf(const SvdFactors& factors);

// a - b. Requires equal shapes.
Matrix64 Difference(const Matrix64& a, const Matrix64& b);

// sum of squares.
double SquaredNorm(const Matrix64& a);

// ||A H^1/2||_F^2 = trace(A H A^T), not below zero. Requires h [a.cols, a.cols].
double SquaredWeightedNorm(const Matrix64& a, const Matrix64& h);

// kInvalidArgument when a value is NaN or infinite.
absl::Status CheckFinite(const Matrix64& a);

}  // namespace rankine
