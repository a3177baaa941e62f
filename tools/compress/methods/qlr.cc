#include "tools/compress/methods/qlr.h"

#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/methods/q_plus_lr.h"
#include "tools/compress/methods/store.h"

namespace rankine {
namespace {

// The H of the scaling's norm ||A H^1/2||_F.
absl::StatusOr<Matrix64> NormOf(const MethodInput& input) {
  const std::string& scaling = input.settings->Word("scaling");
  const int64_t n = input.weight->cols;
  if (scaling == "identity") return DiagonalMatrix(std::vector<double>(n, 1.0));
  if (input.moments == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("--scaling ", scaling,
                     " needs a calibration text: give --calibration FILE, or --statistics of "
                     "rankine calibrate; --scaling identity needs none"));
  }
  const Matrix64& h = input.moments->second;
  if (scaling == "exact") return h;
  std::vector<double> diagonal;
  for (int64_t j = 0; j < n; ++j) {
    const double absolute = input.moments->mean_absolute[j];
    diagonal.push_back(scaling == "diagonal" ? h(j, j) : absolute * absolute);
  }
  return DiagonalMatrix(diagonal);
}

}  // namespace

absl::StatusOr<Factorization> FactorizeQlr(const MethodInput& input) {
  RK_CHECK(input.settings != nullptr);
  const Matrix64& w = *input.weight;
  const Encoding base = input.settings->EncodingOf("base-encode");
  RK_RETURN_IF_ERROR(CheckFinite(w));
  RK_RETURN_IF_ERROR(CheckBase(base, w.cols));
  RK_ASSIGN_OR_RETURN(const int64_t rank,
                      RankBesideBase(input.budget, w.rows, w.cols, base, input.encoding, 0));
  RK_ASSIGN_OR_RETURN(const Matrix64 h, NormOf(input));
  LowRankOptions fit{.rank = rank, .encoding = input.encoding};
  LdlFactors ldl;
  if (!input.encoding.IsFloat()) {
    RK_ASSIGN_OR_RETURN(ldl, BlockLdl(h, LdlWidth(input.encoding), kFactorsDamping));
    fit.ldl = &ldl;
  }
  RoundedMatrix best_q;
  LowRank best;
  double best_error = std::numeric_limits<double>::infinity();
  Matrix64 target = w;  // W - L R
  for (int64_t k = 0; k < input.settings->Integer("iterations"); ++k) {
    RK_ASSIGN_OR_RETURN(RoundedMatrix q, RoundMatrix(target, {.encoding = base}));
    const Matrix64 residual = Difference(w, q.values);
    const Matrix64 weighted = MatrixProduct(residual, h);
    RK_ASSIGN_OR_RETURN(LowRank factors, FitLowRank(residual, weighted, h, fit));
    target = Difference(w, ProductOf(factors));
    const double error = std::inner_product(residual.values.begin(), residual.values.end(),
                                            weighted.values.begin(), 0.0) +
                         ErrorChange(factors, weighted, h);
    if (!(error < best_error)) continue;
    best_error = error;
    best_q = std::move(q);
    best = std::move(factors);
  }
  return StoreQPlusLr(input, base, best_q, best);
}

}  // namespace rankine
