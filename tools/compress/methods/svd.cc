#include "tools/compress/methods/svd.h"

#include "models/status_macros.h"
#include "tools/compress/methods/store.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeSvd(const MethodInput& input) {
  const Matrix64& w = *input.weight;
  RK_ASSIGN_OR_RETURN(const int64_t rank, RankWithin(input.budget, w.rows, w.cols, input.encoding));
  if (rank == 0) return Factorization{};
  RK_ASSIGN_OR_RETURN(const SvdFactors factors, TruncatedSvd(w, rank));
  return StoreSvd(input, factors);
}

absl::StatusOr<std::vector<double>> SvdSliceLosses(const MethodInput& input) {
  return SquaredSingularValues(*input.weight, nullptr);
}

}  // namespace rankine
