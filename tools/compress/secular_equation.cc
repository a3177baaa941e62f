// Root i of 1 / rho + sum_j z_j^2 / (d_j - x) lies between d_i and d_(i+1). It is sought as its
// distance from the nearer of the two, in which all differences d_j - x keep their digits. Steps
// replace the sums on either side of the root by a constant and the nearest pole, matched in value
// and slope (Bunch, Nielsen & Sorensen, Numer. Math. 31, 1978), and are kept in a bracket.
#include "tools/compress/secular_equation.h"

#include <cmath>
#include <limits>

#include "kernels/base/check.h"

namespace rankine {
namespace {

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
// Steps converge quadratically, in 4 to 8; halving, which takes over later, needs at most the 1100
// bits of exponents and digits.
constexpr int kQuickSteps = 40;
constexpr int kMaxSteps = 1200;

// Both sums at a point, and their slopes.
struct Sums {
  double left = 0, left_slope = 0;    // of poles up to the root's own
  double right = 0, right_slope = 0;  // of those above
  double Total(double inverse_rho) const { return inverse_rho + left + right; }
  // What rounding may make of it.
  double Noise(double inverse_rho, int64_t k) const {
    return kEpsilon * static_cast<double>(k) * (inverse_rho + std::abs(left) + right);
  }
};

class Root {
 public:
  Root(const std::vector<double>& d, const std::vector<double>& z, double inverse_rho, int64_t i)
      : d_(d), z_(z), inverse_rho_(inverse_rho), i_(i), size_(static_cast<int64_t>(d.size())) {}

  // d_j less the root, for all j, into `differences` [k]. Returns the root.
  double Find(double width, double* differences) {
    differences_ = differences;
    const bool is_last = i_ + 1 == size_;
    origin_ = d_[i_];
    double low = 0, high = is_last ? width : width / 2, x = width / 2;
    Sums sums = At(x);
    if (!is_last && sums.Total(inverse_rho_) < 0) {
      origin_ = d_[i_ + 1];
      low = -width / 2;
      high = 0;
      x = low;
    }
    for (int step = 0; step < kMaxSteps; ++step) {
      sums = At(x);
      const double f = sums.Total(inverse_rho_);
      if (std::abs(f) <= sums.Noise(inverse_rho_, size_)) break;
      (f < 0 ? low : high) = x;
      double next = step < kQuickSteps ? x + Step(sums, f) : 0.5 * (low + high);
      if (!(next > low && next < high)) next = 0.5 * (low + high);
      if (next == low || next == high) break;  // no number lies between
      x = next;
    }
    At(x);
    return origin_ + x;
  }

 private:
  Sums At(double x) {
    Sums sums;
    for (int64_t j = 0; j <= i_; ++j) Add(j, x, &sums.left, &sums.left_slope);
    for (int64_t j = i_ + 1; j < size_; ++j) Add(j, x, &sums.right, &sums.right_slope);
    return sums;
  }

  void Add(int64_t j, double x, double* sum, double* slope) {
    differences_[j] = (d_[j] - origin_) - x;
    const double ratio = z_[j] / differences_[j];
    *sum += z_[j] * ratio;
    *slope += ratio * ratio;
  }

  // From a point of value f to the root of c + s / (a - step) + t / (b - step).
  double Step(const Sums& sums, double f) const {
    const double a = differences_[i_], s = a * a * sums.left_slope;
    const double left = sums.left - a * sums.left_slope;
    if (i_ + 1 == size_) {
      const double c = inverse_rho_ + left;
      return c > 0 ? a + s / c : std::numeric_limits<double>::infinity();
    }
    const double b = differences_[i_ + 1], t = b * b * sums.right_slope;
    const double c = inverse_rho_ + left + sums.right - b * sums.right_slope;
    const double p = c * (a + b) + s + t, q = a * b * f;
    const double root = std::sqrt(std::abs(p * p - 4 * q * c));
    return p <= 0 ? (p - root) / (2 * c) : 2 * q / (p + root);
  }

  const std::vector<double>& d_;
  const std::vector<double>& z_;
  const double inverse_rho_;
  const int64_t i_, size_;
  double origin_ = 0;
  double* differences_ = nullptr;
};

// Loewner's formula: with these weights the roots are exact.
double Weight(const SecularEigen& eigen, const std::vector<double>& d, int64_t j) {
  const auto k = static_cast<int64_t>(d.size());
  double square = -eigen.differences(k - 1, j);
  for (int64_t i = 0; i < j; ++i) square *= eigen.differences(i, j) / (d[j] - d[i]);
  for (int64_t i = j; i + 1 < k; ++i) square *= eigen.differences(i, j) / (d[j] - d[i + 1]);
  return std::sqrt(std::max(square, 0.0));
}

}  // namespace

SecularEigen SolveSecular(const std::vector<double>& d, const std::vector<double>& z, double rho) {
  const auto k = static_cast<int64_t>(d.size());
  RK_CHECK(k >= 1 && z.size() == d.size() && rho > 0);
  double norm = 0;
  for (const double value : z) norm += value * value;
  SecularEigen eigen{.values = std::vector<double>(d.size()),
                     .differences = Matrix64(k, k),
                     .weights = std::vector<double>(d.size())};
  for (int64_t i = 0; i < k; ++i) {
    // The last root lies within rho |z|^2 of the last pole; a little more keeps rounding off.
    const double width = i + 1 < k ? d[i + 1] - d[i] : rho * norm * (1 + 4 * kEpsilon);
    eigen.values[i] = Root(d, z, 1 / rho, i).Find(width, eigen.differences.Row(i));
  }
  for (int64_t j = 0; j < k; ++j) {
    eigen.weights[j] = std::copysign(Weight(eigen, d, j), z[j]);
  }
  return eigen;
}

}  // namespace rankine
