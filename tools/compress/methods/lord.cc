#include "tools/compress/methods/lord.h"

#include <algorithm>
#include <numeric>

#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/methods/store.h"

namespace rankine {
namespace {

// H - mu mu^T, on the diagonal not below zero.
Matrix64 Centred(const Moments& moments) {
  Matrix64 h = moments.second;
  for (int64_t i = 0; i < h.rows; ++i) {
    for (int64_t j = 0; j < h.cols; ++j) h(i, j) -= moments.mean[i] * moments.mean[j];
    h(i, i) = std::max(h(i, i), 0.0);
  }
  return h;
}

bool WithoutMean(const MethodInput& input) {
  RK_CHECK(input.moments != nullptr && input.settings != nullptr);
  return input.settings->Integer("mean") == 0;
}

// What the projection minimises under.
Matrix64 MomentsOf(const MethodInput& input) {
  return WithoutMean(input) ? input.moments->second : Centred(*input.moments);
}

// b + (W - U S V) mu
std::vector<double> BiasFor(const MethodInput& input, const SvdFactors& f) {
  const std::vector<double>& mean = input.moments->mean;
  const Matrix64& w = *input.weight;
  std::vector<double> bias(w.rows);
  for (int64_t i = 0; i < w.rows; ++i) {
    bias[i] = std::inner_product(mean.begin(), mean.end(), w.Row(i),
                                 input.bias != nullptr ? (*input.bias)[i] : 0.0);
  }
  for (size_t k = 0; k < f.s.size(); ++k) {
    const auto slice = static_cast<int64_t>(k);
    const double along = f.s[k] * std::inner_product(mean.begin(), mean.end(), f.v.Row(slice), 0.0);
    for (int64_t i = 0; i < w.rows; ++i) bias[i] -= f.u(i, slice) * along;
  }
  return bias;
}

}  // namespace

absl::StatusOr<Factorization> FactorizeCentred(const MethodInput& input, const Matrix64& centred,
                                               bool without_mean) {
  const Matrix64& w = *input.weight;
  // A bias that the linear has already is replaced: no more numbers.
  const int64_t extra = without_mean || input.bias != nullptr ? 0 : w.rows;
  RK_ASSIGN_OR_RETURN(const int64_t rank,
                      RankWithin(input.budget, w.rows, w.cols, input.encoding, extra));
  if (rank == 0) return Factorization{};
  RK_ASSIGN_OR_RETURN(const SvdFactors factors, WeightedSvd(w, centred, rank));
  RK_ASSIGN_OR_RETURN(Factorization result, StoreSvd(input, factors));
  if (!without_mean) RK_RETURN_IF_ERROR(AddBias(BiasFor(input, factors), &result));
  return result;
}

absl::StatusOr<Factorization> FactorizeLord(const MethodInput& input) {
  return FactorizeCentred(input, MomentsOf(input), WithoutMean(input));
}

absl::StatusOr<std::vector<double>> LordSliceLosses(const MethodInput& input) {
  const Matrix64 h = MomentsOf(input);
  return SquaredSingularValues(*input.weight, &h);
}

}  // namespace rankine
