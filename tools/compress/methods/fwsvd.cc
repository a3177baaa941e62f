#include "tools/compress/methods/fwsvd.h"

#include "kernels/base/check.h"
#include "tools/compress/methods/store.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeFwsvd(const MethodInput& input) {
  RK_CHECK(input.fisher != nullptr);
  return FactorizeWeighted(input, DiagonalMatrix(*input.fisher));
}

absl::StatusOr<std::vector<double>> FwsvdSliceLosses(const MethodInput& input) {
  RK_CHECK(input.fisher != nullptr);
  const Matrix64 h = DiagonalMatrix(*input.fisher);
  return SquaredSingularValues(*input.weight, &h);
}

}  // namespace rankine
