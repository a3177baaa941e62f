#include "tools/compress/methods/svd.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeSvd(const MethodInput& input) {
  const Matrix64& w = *input.weight;
  const auto factors = TruncatedSvd(w, RankFromKeep(input.keep, w.rows, w.cols));
  if (!factors.ok()) return factors.status();
  return StoreSvd(input, *factors);
}

}  // namespace rankine
