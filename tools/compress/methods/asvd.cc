#include "tools/compress/methods/asvd.h"

#include <cmath>

#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/methods/store.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeAsvd(const MethodInput& input) {
  RK_CHECK(input.moments != nullptr && input.settings != nullptr);
  const double alpha = input.settings->Number("alpha");
  std::vector<double> squares;
  for (const double a : input.moments->mean_absolute) squares.push_back(std::pow(a, 2 * alpha));
  return FactorizeWeighted(input, DiagonalMatrix(squares));
}

}  // namespace rankine
