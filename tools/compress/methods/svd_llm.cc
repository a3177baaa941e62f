#include "tools/compress/methods/svd_llm.h"

#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/methods/store.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeSvdLlm(const MethodInput& input) {
  RK_CHECK(input.moments != nullptr);
  const Matrix64& w = *input.weight;
  RK_ASSIGN_OR_RETURN(const int64_t rank, RankWithin(input.budget, w.rows, w.cols, input.encoding));
  if (rank == 0) return Factorization{};
  RK_ASSIGN_OR_RETURN(const SvdFactors factors, WeightedSvd(w, input.moments->second, rank));
  return StoreSvd(input, factors);
}

}  // namespace rankine
