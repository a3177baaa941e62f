// Multinomial logistic regression with an L2 penalty, fitted to convergence by L-BFGS (Liu &
// Nocedal 1989) in f64: the classifier of a probe. The minimum is that of scikit-learn's
// LogisticRegression with the same C.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace rankine {

struct LogisticOptions {
  // The objective is C sum(losses) + |weights|^2 / 2; intercepts are not penalised.
  double c = 1;
  int64_t max_iterations = 2000;
  // Converged when no entry of the gradient, divided by C times the examples, exceeds this.
  double tolerance = 1e-7;
};

// Of two classes one has the logit 0, as in scikit-learn; of more each has its own.
struct LogisticModel {
  int64_t features = 0;
  int64_t classes = 0;
  int64_t iterations = 0;
  std::vector<double> weights;     // [logits, features], logits = 1 for two classes, else classes
  std::vector<double> intercepts;  // [logits]

  // The most probable class of x [features]; the lowest of equals.
  int64_t Predict(const float* x) const;
};

// x: rows of `features` floats each; labels in [0, classes). kInvalidArgument: fewer than two
// classes, sizes that disagree, values that are not finite, C not positive. kInternal: not
// converged in max_iterations.
absl::StatusOr<LogisticModel> FitLogistic(absl::Span<const float* const> x, int64_t features,
                                          absl::Span<const int64_t> labels, int64_t classes,
                                          const LogisticOptions& options);

}  // namespace rankine
