#include "tools/compress/tridiagonal_eigen.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "Eigen/Core"
#include "Eigen/Eigenvalues"
#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/eigen_views.h"
#include "tools/compress/secular_equation.h"

namespace rankine {
namespace {

using Eigen::VectorXd;

// Parts of this size are solved by QR iterations, whose cubic cost is small there.
constexpr int64_t kLeaf = 48;
// LAPACK's: what is dropped stays a small multiple of rounding.
constexpr double kDeflation = 8 * std::numeric_limits<double>::epsilon();

std::vector<int64_t> Order(const std::vector<double>& values) {
  std::vector<int64_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return values[a] < values[b]; });
  return order;
}

// An eigenvector of the two parts: where it is not zero.
enum class Half : uint8_t { kUpper, kBoth, kLower };

// Two solved parts and the term of rank one between them. `vectors` [n, n] is their eigenvectors
// side by side, block diagonal.
class Merge {
 public:
  Merge(Eigen::Ref<ColMajor> vectors, double* values, int64_t upper, double off)
      : vectors_(vectors),
        values_(values),
        size_(vectors.rows()),
        upper_(upper),
        rho_(2 * std::abs(off)) {
    z_.resize(size_);
    for (int64_t j = 0; j < size_; ++j) {
      const double end = j < upper ? vectors(upper - 1, j) : vectors(upper, j);
      z_[j] = (j >= upper && off < 0 ? -end : end) * M_SQRT1_2;
      half_.push_back(j < upper ? Half::kUpper : Half::kLower);
    }
  }

  // Leaves the values rising in place, and the vectors of the `wanted` largest in their columns.
  void Run(int64_t wanted) {
    Deflate();
    std::vector<double> values;  // of the kept ones' roots, then of the deflated
    SecularEigen roots;
    if (!kept_.empty()) {
      std::vector<double> d, z;
      for (const int64_t j : kept_) {
        d.push_back(values_[j]);
        z.push_back(z_[j]);
      }
      roots = SolveSecular(d, z, rho_);
      values = roots.values;
    }
    for (const int64_t j : deflated_) values.push_back(values_[j]);
    const std::vector<int64_t> order = Order(values);
    ColMajor result(size_, wanted);
    Combine(roots, {order.end() - wanted, order.end()}, &result);
    for (int64_t k = 0; k < size_; ++k) values_[k] = values[order[k]];
    vectors_.rightCols(wanted) = result;
  }

 private:
  // Sorts out the eigenpairs that the other part does not change: no weight, or a neighbour so near
  // that a rotation of the two leaves one of them without.
  void Deflate() {
    double largest = 0;
    for (int64_t j = 0; j < size_; ++j) {
      largest = std::max({largest, std::abs(values_[j]), std::abs(z_[j])});
    }
    const double floor = kDeflation * largest;
    for (const int64_t j : Order({values_, values_ + size_})) {
      if (rho_ * std::abs(z_[j]) <= floor) {
        deflated_.push_back(j);
        continue;
      }
      if (!kept_.empty() && RotateOut(kept_.back(), j, floor)) {
        deflated_.push_back(kept_.back());
        kept_.pop_back();
      }
      kept_.push_back(j);
    }
  }

  // Moves the weight of eigenpair a to b where the difference of their values allows.
  bool RotateOut(int64_t a, int64_t b, double floor) {
    const double length = std::hypot(z_[a], z_[b]);
    const double c = z_[b] / length, s = -z_[a] / length;
    const double gap = values_[b] - values_[a];
    if (std::abs(gap * c * s) > floor) return false;
    z_[b] = length;
    z_[a] = 0;
    const VectorXd old = vectors_.col(a);
    vectors_.col(a) = c * old + s * vectors_.col(b);
    vectors_.col(b) = c * vectors_.col(b) - s * old;
    if (half_[a] != half_[b]) half_[a] = half_[b] = Half::kBoth;
    const double low = values_[a];
    values_[a] += gap * s * s;
    values_[b] = low + gap * c * c;
    return true;
  }

  // Columns `picked` of [kept vectors x secular eigenvectors, deflated vectors].
  void Combine(const SecularEigen& roots, const std::vector<int64_t>& picked,
               ColMajor* result) const {
    const auto kept = static_cast<int64_t>(kept_.size());
    std::vector<int64_t> from_roots, columns;
    for (size_t k = 0; k < picked.size(); ++k) {
      const auto column = static_cast<int64_t>(k);
      if (picked[k] >= kept) {
        result->col(column) = vectors_.col(deflated_[picked[k] - kept]);
      } else {
        from_roots.push_back(picked[k]);
        columns.push_back(column);
      }
    }
    if (columns.empty()) return;
    for (const bool top : {true, false}) {
      const ColMajor product = HalfProduct(roots, from_roots, top);
      for (size_t k = 0; k < columns.size(); ++k) {
        auto column = result->col(columns[k]);
        (top ? column.head(upper_) : column.tail(size_ - upper_)) = product.col(k);
      }
    }
  }

  // The upper or lower rows: only the vectors that are not zero there take part.
  ColMajor HalfProduct(const SecularEigen& roots, const std::vector<int64_t>& picked,
                       bool top) const {
    std::vector<int64_t> used;
    for (size_t j = 0; j < kept_.size(); ++j) {
      if (half_[kept_[j]] != (top ? Half::kLower : Half::kUpper)) {
        used.push_back(static_cast<int64_t>(j));
      }
    }
    const int64_t rows = top ? upper_ : size_ - upper_;
    ColMajor basis(rows, used.size()), weights(used.size(), picked.size());
    for (size_t j = 0; j < used.size(); ++j) {
      const auto column = vectors_.col(kept_[used[j]]);
      basis.col(j) = top ? column.head(rows) : column.tail(rows);
    }
    VectorXd vector(kept_.size());
    for (size_t k = 0; k < picked.size(); ++k) {
      const double* differences = roots.differences.Row(picked[k]);
      for (int64_t j = 0; j < vector.size(); ++j) vector[j] = roots.weights[j] / differences[j];
      vector /= vector.norm();
      for (size_t j = 0; j < used.size(); ++j) weights(j, k) = vector[used[j]];
    }
    return basis * weights;
  }

  Eigen::Ref<ColMajor> vectors_;
  double* values_;
  const int64_t size_, upper_;
  const double rho_;        // with z of length one
  std::vector<double> z_;   // the ends of the parts' eigenvectors that the term joins
  std::vector<Half> half_;  // of each eigenvector
  std::vector<int64_t> kept_, deflated_;
};

absl::Status DidNotConverge() {
  return absl::InternalError("the eigenvalues of a tridiagonal matrix did not converge");
}

// The values alone, by QR iterations, which without vectors take n^2 operations. Into `diagonal`.
absl::Status SolveValues(std::vector<double>* diagonal, const std::vector<double>& off) {
  const auto n = static_cast<int64_t>(diagonal->size());
  Eigen::SelfAdjointEigenSolver<ColMajor> solver;
  solver.computeFromTridiagonal(Eigen::Map<const VectorXd>(diagonal->data(), n),
                                Eigen::Map<const VectorXd>(off.data(), n - 1),
                                Eigen::EigenvaluesOnly);
  if (solver.info() != Eigen::Success) return DidNotConverge();
  std::copy_n(solver.eigenvalues().data(), n, diagonal->begin());
  return absl::OkStatus();
}

class Solver {
 public:
  Solver(std::vector<double>* diagonal, std::vector<double>* off, ColMajor* vectors)
      : diagonal_(*diagonal), off_(*off), vectors_(*vectors) {}

  // Rows [begin, begin + size): eigenvalues into the diagonal, eigenvectors of the `wanted` largest
  // into the last columns of the block.
  absl::Status Solve(int64_t begin, int64_t size, int64_t wanted) {
    if (size <= kLeaf) return SolveLeaf(begin, size);
    const int64_t upper = size / 2;
    const double off = off_[begin + upper - 1];
    diagonal_[begin + upper - 1] -= std::abs(off);
    diagonal_[begin + upper] -= std::abs(off);
    RK_RETURN_IF_ERROR(Solve(begin, upper, upper));
    RK_RETURN_IF_ERROR(Solve(begin + upper, size - upper, size - upper));
    Merge(vectors_.block(begin, begin, size, size), diagonal_.data() + begin, upper, off)
        .Run(wanted);
    return absl::OkStatus();
  }

 private:
  absl::Status SolveLeaf(int64_t begin, int64_t size) {
    Eigen::SelfAdjointEigenSolver<ColMajor> solver;
    const Eigen::Map<const VectorXd> diagonal(diagonal_.data() + begin, size);
    const Eigen::Map<const VectorXd> off(off_.data() + begin, size - 1);
    solver.computeFromTridiagonal(diagonal, off);
    if (solver.info() != Eigen::Success) return DidNotConverge();
    vectors_.block(begin, begin, size, size) = solver.eigenvectors();
    std::copy_n(solver.eigenvalues().data(), size, diagonal_.begin() + begin);
    return absl::OkStatus();
  }

  std::vector<double>& diagonal_;
  std::vector<double>& off_;
  ColMajor& vectors_;
};

}  // namespace

absl::StatusOr<TridiagonalEigen> SolveTridiagonal(std::vector<double> diagonal,
                                                  std::vector<double> off, int64_t wanted) {
  const auto n = static_cast<int64_t>(diagonal.size());
  RK_CHECK(n >= 1 && static_cast<int64_t>(off.size()) == n - 1 && wanted >= 0 && wanted <= n);
  double scale = 0;
  for (const std::vector<double>* values : {&diagonal, &off}) {
    for (const double v : *values) {
      if (!std::isfinite(v)) return absl::InternalError("a tridiagonal matrix is not finite");
      scale = std::max(scale, std::abs(v));
    }
  }
  if (scale == 0) scale = 1;
  for (double& v : diagonal) v /= scale;
  for (double& v : off) v /= scale;
  ColMajor vectors;
  if (wanted == 0) {
    RK_RETURN_IF_ERROR(SolveValues(&diagonal, off));
  } else {
    vectors = ColMajor::Zero(n, n);
    RK_RETURN_IF_ERROR(Solver(&diagonal, &off, &vectors).Solve(0, n, wanted));
  }
  for (double& v : diagonal) v *= scale;
  TridiagonalEigen result{.values = std::move(diagonal), .vectors = Matrix64(wanted, n)};
  Eigen::Map<ColMajor>(result.vectors.values.data(), n, wanted) = vectors.rightCols(wanted);
  return result;
}

}  // namespace rankine
