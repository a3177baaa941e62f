// Regression by a Gaussian process with a Matern 5/2 kernel, and the expected improvement of a
// point: what Bayesian optimisation asks before it pays for an evaluation. (Rasmussen & Williams,
// Gaussian Processes for Machine Learning, 2006, algorithm 2.1; Jones, Schonlau & Welch 1998.)
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/compress/linalg.h"

namespace rankine {

// k(a, b) = variance (1 + d + d^2 / 3) exp(-d), d = sqrt(5) |a - b| / length; `noise` is added to
// the variance of an observation.
struct GaussianProcessParameters {
  double length = 1;
  double variance = 1;
  double noise = 0;
};

struct Prediction {
  double mean = 0;
  double deviation = 0;  // of the function, the noise of an observation not included
};

// Of observations y at points x; immutable. The prior's mean is the mean of y.
class GaussianProcess {
 public:
  // x [n, d], y [n], n >= 1. kInvalidArgument: sizes that do not fit, values that are not finite, a
  // length or a variance that is not above 0, or a covariance that is singular to rounding (equal
  // points without noise).
  static absl::StatusOr<GaussianProcess> Create(Matrix64 x, std::vector<double> y,
                                                const GaussianProcessParameters& parameters);
  // With the parameters of greatest marginal likelihood among lengths of 0.05 to 10 and noises of
  // 1e-8 to 1 times the variance, which is given by the other two; for points of the unit cube.
  // Deterministic. Observations that are all equal give a prior of their height and no variance
  // worth naming.
  static absl::StatusOr<GaussianProcess> Fit(const Matrix64& x, const std::vector<double>& y);

  const GaussianProcessParameters& parameters() const { return parameters_; }
  // log p(y | x), constants included.
  double log_likelihood() const { return log_likelihood_; }
  // `point` [d].
  Prediction Predict(const double* point) const;
  // E[max(0, best - f(point))]: how much less than `best` the function is expected to be there.
  double ExpectedImprovement(const double* point, double best) const;

 private:
  double Kernel(const double* a, const double* b) const;

  Matrix64 x_;
  GaussianProcessParameters parameters_;
  double mean_ = 0;              // of y
  Matrix64 cholesky_;            // L with K + noise I = L L^T, lower
  std::vector<double> weights_;  // (K + noise I)^-1 (y - mean)
  double log_likelihood_ = 0;
};

}  // namespace rankine
