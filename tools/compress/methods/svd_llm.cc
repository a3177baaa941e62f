#include "tools/compress/methods/svd_llm.h"

#include "kernels/base/check.h"
#include "tools/compress/methods/store.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeSvdLlm(const MethodInput& input) {
  RK_CHECK(input.moments != nullptr);
  return FactorizeWeighted(input, input.moments->second);
}

absl::StatusOr<std::vector<double>> SvdLlmSliceLosses(const MethodInput& input) {
  RK_CHECK(input.moments != nullptr);
  return SquaredSingularValues(*input.weight, &input.moments->second);
}

}  // namespace rankine
