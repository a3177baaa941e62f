#include "tools/compress/methods/svd_llm.h"

#include "kernels/base/check.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeSvdLlm(const MethodInput& input) {
  RK_CHECK(input.moments != nullptr);
  const Matrix64& w = *input.weight;
  const auto factors =
      WeightedSvd(w, input.moments->second, RankFromKeep(input.keep, w.rows, w.cols));
  if (!factors.ok()) return factors.status();
  return StoreSvd(input, *factors);
}

}  // namespace rankine
