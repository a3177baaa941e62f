#include "tools/compress/methods/bolaco.h"

#include <algorithm>

#include "kernels/base/check.h"
#include "tools/compress/methods/lord.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeBolaco(const MethodInput& input) {
  RK_CHECK(input.moments != nullptr);
  const Moments& m = *input.moments;
  Matrix64 h = m.second;
  for (int64_t g = 0; g < m.group_means.rows; ++g) {
    const double* mean = m.group_means.Row(g);
    const double share = static_cast<double>(m.group_tokens[g]) / static_cast<double>(m.tokens);
    for (int64_t i = 0; i < h.rows; ++i) {
      for (int64_t j = 0; j < h.cols; ++j) h(i, j) -= share * mean[i] * mean[j];
    }
  }
  for (int64_t i = 0; i < h.rows; ++i) h(i, i) = std::max(h(i, i), 0.0);
  return FactorizeCentred(input, h, /*without_mean=*/false);
}

}  // namespace rankine
