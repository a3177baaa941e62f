#include "tools/compress/methods/svd_llm_update.h"

#include <cmath>
#include <utility>

#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/methods/store.h"

namespace rankine {
namespace {

// The damping that GPTQ (arXiv 2210.17323) and its successors have settled on.
constexpr double kRidge = 0.01;

double Trace(const Matrix64& h) {
  double trace = 0;
  for (int64_t i = 0; i < h.rows; ++i) trace += h(i, i);
  return trace;
}

// u v as normalised columns, their lengths, and v.
SvdFactors WithColumnLengths(Matrix64 u, Matrix64 v) {
  SvdFactors f{.u = std::move(u), .s = std::vector<double>(v.rows), .v = std::move(v)};
  for (int64_t i = 0; i < f.u.rows; ++i) {
    for (int64_t k = 0; k < f.u.cols; ++k) f.s[k] += f.u(i, k) * f.u(i, k);
  }
  for (double& s : f.s) s = std::sqrt(s);
  for (int64_t i = 0; i < f.u.rows; ++i) {
    for (int64_t k = 0; k < f.u.cols; ++k) f.u(i, k) /= f.s[k] > 0 ? f.s[k] : 1;
  }
  return f;
}

}  // namespace

absl::StatusOr<Factorization> FactorizeSvdLlmUpdate(const MethodInput& input) {
  RK_CHECK(input.moments != nullptr && input.prefix_moments != nullptr);
  const Matrix64& w = *input.weight;
  RK_ASSIGN_OR_RETURN(const int64_t rank, RankWithin(input.budget, w.rows, w.cols, input.encoding));
  if (rank == 0) return Factorization{};
  const Moments& prefix = *input.prefix_moments;
  const Matrix64& h = prefix.second;
  if (input.settings->Word("target") == "dense") {
    RK_ASSIGN_OR_RETURN(const Matrix64 map,
                        RidgeMap(MatrixProduct(w, prefix.cross), w, h,
                                 kRidge * Trace(h) / static_cast<double>(h.rows)));
    RK_ASSIGN_OR_RETURN(const SvdFactors factors, WeightedSvd(map, h, rank));
    return StoreSvd(input, factors);
  }
  RK_ASSIGN_OR_RETURN(SvdFactors factors, WeightedSvd(w, input.moments->second, rank));
  RK_ASSIGN_OR_RETURN(Matrix64 u, FitLeft(MatrixProduct(w, h), factors.v, h));
  RK_ASSIGN_OR_RETURN(Factorization result,
                      StoreSvd(input, WithColumnLengths(std::move(u), std::move(factors.v))));
  result.matrix.sorted_leg.clear();
  return result;
}

}  // namespace rankine
