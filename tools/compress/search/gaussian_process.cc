#include "tools/compress/search/gaussian_process.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "Eigen/Cholesky"
#include "Eigen/Core"
#include "absl/strings/str_cat.h"
#include "tools/compress/eigen_views.h"
#include "tools/eval/estimate.h"

namespace rankine {
namespace {

using LowerFactor = Eigen::LLT<Eigen::MatrixXd>;

// Bounds of Fit, as documented.
constexpr double kLeastLength = 0.05, kMostLength = 10;
constexpr double kLeastNoise = 1e-8, kMostNoise = 1;
// Points of the grid on either axis, evenly in the logarithm: neighbours are a factor of 1.6 and 10
// apart, well within the width of the likelihood's peak; steps then halve until they change the
// parameters by less than a thousandth.
constexpr int kLengths = 12, kNoises = 9;
constexpr double kLastLogStep = 1e-3;

double Matern(double squared_distance, double length) {
  const double d = std::sqrt(5 * squared_distance) / length;
  return (1 + d + d * d / 3) * std::exp(-d);
}

double SquaredDistance(const double* a, const double* b, int64_t dims) {
  double sum = 0;
  for (int64_t i = 0; i < dims; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

Eigen::MatrixXd SquaredDistances(const Matrix64& x) {
  Eigen::MatrixXd d(x.rows, x.rows);
  for (int64_t i = 0; i < x.rows; ++i) {
    for (int64_t j = 0; j < x.rows; ++j) d(i, j) = SquaredDistance(x.Row(i), x.Row(j), x.cols);
  }
  return d;
}

double LogDeterminant(const LowerFactor& factor) {
  double sum = 0;
  for (Eigen::Index i = 0; i < factor.rows(); ++i) sum += std::log(factor.matrixLLT()(i, i));
  return 2 * sum;
}

absl::Status Check(const Matrix64& x, const std::vector<double>& y) {
  if (x.rows < 1 || static_cast<size_t>(x.rows) != y.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a Gaussian process of ", x.rows, " points and ", y.size(), " observations"));
  }
  if (auto status = CheckFinite(x); !status.ok()) return status;
  const bool finite = std::all_of(y.begin(), y.end(), [](double v) { return std::isfinite(v); });
  return finite ? absl::OkStatus() : absl::InvalidArgumentError("an observation is not finite");
}

// The likelihood as a function of length and noise / variance, the variance being the best.
class Profile {
 public:
  Profile(const Matrix64& x, const std::vector<double>& y)
      : distances_(SquaredDistances(x)), centred_(static_cast<Eigen::Index>(y.size())) {
    const double mean = MeanOf(y).value;
    for (size_t i = 0; i < y.size(); ++i) centred_(static_cast<Eigen::Index>(i)) = y[i] - mean;
  }

  GaussianProcessParameters At(double log_length, double log_noise) const {
    const LowerFactor factor = Factor(log_length, log_noise);
    const double variance = BestVariance(factor);
    return {.length = std::exp(log_length),
            .variance = variance,
            .noise = std::exp(log_noise) * variance};
  }

  // Less than any where the covariance is singular to rounding.
  double LogLikelihood(double log_length, double log_noise) const {
    const LowerFactor factor = Factor(log_length, log_noise);
    if (factor.info() != Eigen::Success) return -std::numeric_limits<double>::infinity();
    const auto n = static_cast<double>(centred_.size());
    return -0.5 * (n * std::log(BestVariance(factor)) + LogDeterminant(factor));
  }

 private:
  LowerFactor Factor(double log_length, double log_noise) const {
    const double length = std::exp(log_length);
    Eigen::MatrixXd k = distances_.unaryExpr([&](double d) { return Matern(d, length); });
    k.diagonal().array() += std::exp(log_noise);
    return LowerFactor(k);
  }

  double BestVariance(const LowerFactor& factor) const {
    const double fit = centred_.dot(factor.solve(centred_));
    const double least = std::numeric_limits<double>::min() * 1e10;  // all observations equal
    return std::max(fit / static_cast<double>(centred_.size()), least);
  }

  Eigen::MatrixXd distances_;
  Eigen::VectorXd centred_;
};

}  // namespace

absl::StatusOr<GaussianProcess> GaussianProcess::Create(
    Matrix64 x, std::vector<double> y, const GaussianProcessParameters& parameters) {
  if (auto status = Check(x, y); !status.ok()) return status;
  if (!(parameters.length > 0) || !(parameters.variance > 0) || !(parameters.noise >= 0)) {
    return absl::InvalidArgumentError("length and variance must be above 0, noise not below");
  }
  GaussianProcess gp;
  gp.parameters_ = parameters;
  gp.mean_ = MeanOf(y).value;
  Eigen::MatrixXd k = SquaredDistances(x).unaryExpr(
      [&](double d) { return parameters.variance * Matern(d, parameters.length); });
  k.diagonal().array() += parameters.noise;
  const LowerFactor factor(k);
  if (factor.info() != Eigen::Success) {
    return absl::InvalidArgumentError(
        "the covariance of the points is singular: equal points need noise");
  }
  Eigen::VectorXd centred(x.rows);
  for (int64_t i = 0; i < x.rows; ++i) centred(i) = y[static_cast<size_t>(i)] - gp.mean_;
  const Eigen::VectorXd weights = factor.solve(centred);
  gp.weights_.assign(weights.data(), weights.data() + weights.size());
  gp.cholesky_ = Matrix64(x.rows, x.rows);
  Eigen::Map<RowMajor>(gp.cholesky_.values.data(), x.rows, x.rows) = factor.matrixL();
  gp.log_likelihood_ = -0.5 * (centred.dot(weights) + LogDeterminant(factor) +
                               static_cast<double>(x.rows) * std::log(2 * std::numbers::pi));
  gp.x_ = std::move(x);
  return gp;
}

absl::StatusOr<GaussianProcess> GaussianProcess::Fit(const Matrix64& x,
                                                     const std::vector<double>& y) {
  if (auto status = Check(x, y); !status.ok()) return status;
  const Profile profile(x, y);
  const double low[] = {std::log(kLeastLength), std::log(kLeastNoise)};
  const double high[] = {std::log(kMostLength), std::log(kMostNoise)};
  double step[] = {(high[0] - low[0]) / (kLengths - 1), (high[1] - low[1]) / (kNoises - 1)};
  double best[] = {high[0], high[1]};
  double likelihood = profile.LogLikelihood(best[0], best[1]);
  const auto offer = [&](double length, double noise) {
    length = std::clamp(length, low[0], high[0]);
    noise = std::clamp(noise, low[1], high[1]);
    const double value = profile.LogLikelihood(length, noise);
    if (!(value > likelihood)) return false;
    likelihood = value;
    best[0] = length;
    best[1] = noise;
    return true;
  };
  for (int i = 0; i < kLengths; ++i) {
    for (int j = 0; j < kNoises; ++j) offer(low[0] + i * step[0], low[1] + j * step[1]);
  }
  // Pattern search: as long as a step to a neighbour helps it is taken, then the steps halve.
  while (step[1] > kLastLogStep) {
    const double at[] = {best[0], best[1]};
    const bool moved = offer(at[0] + step[0], at[1]) || offer(at[0] - step[0], at[1]) ||
                       offer(at[0], at[1] + step[1]) || offer(at[0], at[1] - step[1]);
    if (moved) continue;
    step[0] /= 2;
    step[1] /= 2;
  }
  return Create(x, y, profile.At(best[0], best[1]));
}

double GaussianProcess::Kernel(const double* a, const double* b) const {
  return parameters_.variance * Matern(SquaredDistance(a, b, x_.cols), parameters_.length);
}

Prediction GaussianProcess::Predict(const double* point) const {
  const Eigen::Index n = x_.rows;
  Eigen::VectorXd k(n);
  for (Eigen::Index i = 0; i < n; ++i) k(i) = Kernel(x_.Row(i), point);
  const Eigen::Map<const Eigen::VectorXd> weights(weights_.data(), n);
  const Eigen::Map<const RowMajor> cholesky(cholesky_.values.data(), n, n);
  const Eigen::VectorXd solved = cholesky.triangularView<Eigen::Lower>().solve(k);
  const double variance = parameters_.variance - solved.squaredNorm();
  return {.mean = mean_ + k.dot(weights), .deviation = std::sqrt(std::max(variance, 0.0))};
}

double GaussianProcess::ExpectedImprovement(const double* point, double best) const {
  const Prediction p = Predict(point);
  const double gain = best - p.mean;
  if (p.deviation <= 0) return std::max(gain, 0.0);
  const double z = gain / p.deviation;
  const double density = std::exp(-0.5 * z * z) / std::sqrt(2 * std::numbers::pi);
  const double below = 0.5 * std::erfc(-z / std::numbers::sqrt2);
  // Far in the tail the two terms cancel; it is never negative.
  return std::max(gain * below + p.deviation * density, 0.0);
}

}  // namespace rankine
