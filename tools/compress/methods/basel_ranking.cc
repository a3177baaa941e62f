#include "tools/compress/methods/basel_ranking.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/methods/store.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeBaselRanking(const MethodInput& input) {
  RK_CHECK(input.moments != nullptr);
  const Matrix64& w = *input.weight;
  RK_ASSIGN_OR_RETURN(const int64_t rank, RankWithin(input.budget, w.rows, w.cols, input.encoding));
  if (rank == 0) return Factorization{};
  RK_ASSIGN_OR_RETURN(const SvdFactors all, TruncatedSvd(w, std::min(w.rows, w.cols)));
  const Matrix64 vh = MatrixProduct(all.v, input.moments->second);
  std::vector<double> energy(all.s.size());
  std::vector<int64_t> order(all.s.size());
  for (size_t k = 0; k < energy.size(); ++k) {
    const auto row = static_cast<int64_t>(k);
    energy[k] = all.s[k] * all.s[k] *
                std::inner_product(vh.Row(row), vh.Row(row) + vh.cols, all.v.Row(row), 0.0);
    order[k] = row;
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return energy[a] > energy[b]; });
  SvdFactors kept{Matrix64(w.rows, rank), std::vector<double>(rank), Matrix64(rank, w.cols)};
  for (int64_t k = 0; k < rank; ++k) {
    kept.s[k] = all.s[order[k]];
    for (int64_t i = 0; i < w.rows; ++i) kept.u(i, k) = all.u(i, order[k]);
    std::copy_n(all.v.Row(order[k]), w.cols, kept.v.Row(k));
  }
  return StoreSvd(input, kept);
}

}  // namespace rankine
