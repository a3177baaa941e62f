#include "tools/eval/logistic_regression.h"

#include <algorithm>
#include <cmath>
#include <deque>

#include "Eigen/Core"
#include "absl/strings/str_cat.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;

// Pairs of steps and gradients that stand for the curvature; 10 is the usual number.
constexpr size_t kHistory = 10;
constexpr double kSufficientDecrease = 1e-4;  // Armijo's constant, as usual
constexpr int kMaxHalvings = 50;              // of a step: 2^-50 of it changes nothing any more

// The objective divided by C n, over parameters [logits, features + 1], intercepts last.
class Objective {
 public:
  Objective(absl::Span<const float* const> x, int64_t features, absl::Span<const int64_t> labels,
            int64_t classes, double c)
      : x_(static_cast<Eigen::Index>(x.size()), features + 1),
        labels_(labels),
        logits_(classes == 2 ? 1 : classes),
        penalty_(1 / (c * static_cast<double>(x.size()))) {
    for (Eigen::Index i = 0; i < x_.rows(); ++i) {
      for (int64_t j = 0; j < features; ++j) x_(i, j) = x[static_cast<size_t>(i)][j];
      x_(i, features) = 1;
    }
  }

  int64_t logits() const { return logits_; }
  Eigen::Index size() const { return logits_ * x_.cols(); }

  double operator()(const Vector& parameters, Vector* gradient) const {
    const Eigen::Map<const Matrix> w(parameters.data(), logits_, x_.cols());
    Matrix z = x_ * w.transpose();  // [n, logits], then its gradient
    double loss = 0;
    for (Eigen::Index i = 0; i < z.rows(); ++i)
      loss += RowLoss(labels_[static_cast<size_t>(i)], z.row(i));
    const double n = static_cast<double>(x_.rows());
    gradient->resize(size());
    Eigen::Map<Matrix> g(gradient->data(), logits_, x_.cols());
    g.noalias() = z.transpose() * x_ / n;
    const Eigen::Index features = x_.cols() - 1;
    g.leftCols(features) += penalty_ * w.leftCols(features);
    return loss / n + penalty_ / 2 * w.leftCols(features).squaredNorm();
  }

 private:
  // The loss of one example; its logits become the loss's gradient.
  double RowLoss(int64_t label, Matrix::RowXpr z) const {
    // With two classes the other one's logit is 0.
    const double fixed = logits_ == 1 ? 0 : -std::numeric_limits<double>::infinity();
    const double max = std::max(z.maxCoeff(), fixed);
    const Eigen::Index own = logits_ == 1 ? 0 : label;
    const double target = logits_ == 1 && label == 0 ? 0 : z(own);
    const double sum = (z.array() - max).exp().sum() + std::exp(fixed - max);
    const double loss = std::log(sum) + max - target;
    z = ((z.array() - max).exp() / sum).matrix();
    if (logits_ > 1 || label == 1) z(own) -= 1;
    return loss;
  }

  Matrix x_;
  absl::Span<const int64_t> labels_;
  int64_t logits_;
  double penalty_;
};

struct Pair {
  Vector step, change;  // of the parameters, of the gradient
  double inverse;       // 1 / (step . change)
};

// The two-loop recursion: minus the inverse curvature times the gradient.
Vector Direction(const std::deque<Pair>& history, const Vector& gradient) {
  Vector q = -gradient;
  std::vector<double> alphas(history.size());
  for (size_t i = history.size(); i-- > 0;) {
    alphas[i] = history[i].inverse * history[i].step.dot(q);
    q -= alphas[i] * history[i].change;
  }
  if (!history.empty()) {
    const Pair& last = history.back();
    q *= 1 / (last.inverse * last.change.squaredNorm());
  }
  for (size_t i = 0; i < history.size(); ++i) {
    const double beta = history[i].inverse * history[i].change.dot(q);
    q += (alphas[i] - beta) * history[i].step;
  }
  return q;
}

struct Point {
  Vector parameters, gradient;
  double value = 0;
};

// Halves the step until the value falls enough; false when it does not.
bool LineSearch(const Objective& objective, const Vector& direction, double first, const Point& at,
                Point* next) {
  const double slope = at.gradient.dot(direction);
  double step = first;
  for (int i = 0; i < kMaxHalvings; ++i, step /= 2) {
    next->parameters = at.parameters + step * direction;
    next->value = objective(next->parameters, &next->gradient);
    if (next->value <= at.value + kSufficientDecrease * step * slope) return true;
  }
  return false;
}

absl::StatusOr<Vector> Minimise(const Objective& objective, const LogisticOptions& options,
                                int64_t* iterations) {
  Point at;
  at.parameters = Vector::Zero(objective.size());
  at.value = objective(at.parameters, &at.gradient);
  std::deque<Pair> history;
  for (*iterations = 0; *iterations < options.max_iterations; ++*iterations) {
    if (at.gradient.lpNorm<Eigen::Infinity>() <= options.tolerance) return at.parameters;
    const Vector direction = Direction(history, at.gradient);
    // Without curvature the gradient's own length is no guide to the step's.
    const double first = history.empty() ? std::min(1.0, 1 / at.gradient.norm()) : 1;
    Point next;
    if (!LineSearch(objective, direction, first, at, &next)) {
      if (history.empty()) break;
      history.clear();  // start again from the steepest descent
      continue;
    }
    Pair pair{next.parameters - at.parameters, next.gradient - at.gradient, 0};
    const double curvature = pair.step.dot(pair.change);
    // Positive but for rounding: the objective is convex.
    if (curvature > 1e-14 * pair.change.squaredNorm()) {
      pair.inverse = 1 / curvature;
      history.push_back(std::move(pair));
      if (history.size() > kHistory) history.pop_front();
    }
    at = std::move(next);
  }
  return absl::InternalError(absl::StrCat(
      "logistic regression: a gradient of ", at.gradient.lpNorm<Eigen::Infinity>(), " after ",
      *iterations, " steps, not below ", options.tolerance, "; use a smaller C"));
}

absl::Status Check(absl::Span<const float* const> x, int64_t features,
                   absl::Span<const int64_t> labels, int64_t classes, double c) {
  const auto bad = [](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat("logistic regression: ", what));
  };
  if (classes < 2) return bad(absl::StrCat(classes, " classes; at least two are needed"));
  if (x.empty() || x.size() != labels.size() || features < 1)
    return bad(absl::StrCat(x.size(), " examples of ", features, " features and ", labels.size(),
                            " labels"));
  if (!(c > 0 && std::isfinite(c))) return bad("C must be positive");
  for (size_t i = 0; i < x.size(); ++i) {
    if (labels[i] < 0 || labels[i] >= classes)
      return bad(absl::StrCat("example ", i, " has the label ", labels[i]));
    if (!std::all_of(x[i], x[i] + features, [](float v) { return std::isfinite(v); }))
      return bad(absl::StrCat("example ", i, " has a feature that is not finite"));
  }
  return absl::OkStatus();
}

}  // namespace

int64_t LogisticModel::Predict(const float* x) const {
  int64_t best = 0;
  double largest = classes == 2 ? 0 : -std::numeric_limits<double>::infinity();
  for (size_t k = 0; k < intercepts.size(); ++k) {
    double logit = intercepts[k];
    for (int64_t j = 0; j < features; ++j)
      logit += weights[k * static_cast<size_t>(features) + static_cast<size_t>(j)] * x[j];
    if (logit <= largest) continue;
    largest = logit;
    best = classes == 2 ? 1 : static_cast<int64_t>(k);
  }
  return best;
}

absl::StatusOr<LogisticModel> FitLogistic(absl::Span<const float* const> x, int64_t features,
                                          absl::Span<const int64_t> labels, int64_t classes,
                                          const LogisticOptions& options) {
  RK_RETURN_IF_ERROR(Check(x, features, labels, classes, options.c));
  const Objective objective(x, features, labels, classes, options.c);
  LogisticModel model{.features = features, .classes = classes};
  RK_ASSIGN_OR_RETURN(const Vector parameters, Minimise(objective, options, &model.iterations));
  for (int64_t k = 0; k < objective.logits(); ++k) {
    const double* row = parameters.data() + k * (features + 1);
    model.weights.insert(model.weights.end(), row, row + features);
    model.intercepts.push_back(row[features]);
  }
  return model;
}

}  // namespace rankine
