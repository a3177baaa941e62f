#include "tools/compress/methods/asvd.h"

#include <cmath>

#include "kernels/base/check.h"
#include "tools/compress/methods/store.h"

namespace rankine {

namespace {

// diag(s^2)
Matrix64 ScalesOf(const MethodInput& input) {
  RK_CHECK(input.moments != nullptr && input.settings != nullptr);
  const double alpha = input.settings->Number("alpha");
  std::vector<double> squares;
  for (const double a : input.moments->mean_absolute) squares.push_back(std::pow(a, 2 * alpha));
  return DiagonalMatrix(squares);
}

}  // namespace

absl::StatusOr<Factorization> FactorizeAsvd(const MethodInput& input) {
  return FactorizeWeighted(input, ScalesOf(input));
}

absl::StatusOr<std::vector<double>> AsvdSliceLosses(const MethodInput& input) {
  const Matrix64 h = ScalesOf(input);
  return SquaredSingularValues(*input.weight, &h);
}

}  // namespace rankine
