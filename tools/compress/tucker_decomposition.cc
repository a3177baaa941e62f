#include "tools/compress/tucker_decomposition.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

bool IsFull(const Matrix64& factor) { return factor.rows == factor.cols; }

// t with the transposed factors on every mode but `skip`.
Tensor64 Projected(const Tensor64& t, const std::vector<Matrix64>& factors, size_t skip) {
  Tensor64 result = t;
  for (size_t k = 0; k < factors.size(); ++k) {
    if (k == skip || IsFull(factors[k])) continue;
    result = ModeProduct(result, k, Transposed(factors[k]));
  }
  return result;
}

absl::StatusOr<Matrix64> Leading(const Tensor64& t, size_t mode, int64_t rank) {
  if (rank == t.extents[mode]) return Identity(rank);
  RK_ASSIGN_OR_RETURN(SvdFactors f, TruncatedSvd(Unfold(t, mode), rank));
  return std::move(f.u);
}

}  // namespace

absl::Status CheckRanks(absl::Span<const int64_t> extents, absl::Span<const int64_t> ranks) {
  if (ranks.size() != extents.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(ranks.size(), " ranks for a tensor of ", extents.size(), " modes"));
  }
  for (size_t k = 0; k < ranks.size(); ++k) {
    if (ranks[k] < 1 || ranks[k] > extents[k]) {
      return absl::InvalidArgumentError(
          absl::StrCat("rank ", ranks[k], " of mode ", k + 1, " is outside [1, ", extents[k], "]"));
    }
  }
  for (size_t k = 0; k < ranks.size(); ++k) {
    int64_t others = 1;
    for (size_t j = 0; j < ranks.size(); ++j) others *= j == k ? 1 : ranks[j];
    if (ranks[k] < extents[k] && ranks[k] > others) {
      return absl::InvalidArgumentError(absl::StrCat("rank ", ranks[k], " of mode ", k + 1,
                                                     " is above ", others,
                                                     ", the product of the other ranks"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Tucker> Hosvd(const Tensor64& t, absl::Span<const int64_t> ranks) {
  RK_RETURN_IF_ERROR(CheckRanks(t.extents, ranks));
  Tucker tucker;
  for (size_t k = 0; k < ranks.size(); ++k) {
    RK_ASSIGN_OR_RETURN(Matrix64 factor, Leading(t, k, ranks[k]));
    tucker.factors.push_back(std::move(factor));
  }
  tucker.core = Projected(t, tucker.factors, ranks.size());
  return tucker;
}

absl::StatusOr<Tucker> Hooi(const Tensor64& t, absl::Span<const int64_t> ranks,
                            const HooiOptions& options) {
  RK_ASSIGN_OR_RETURN(Tucker tucker, Hosvd(t, ranks));
  const double whole = SquaredNorm(t);
  double kept = SquaredNorm(tucker.core);
  for (int round = 0; round < options.max_rounds; ++round) {
    Tucker next = tucker;
    for (size_t k = 0; k < ranks.size(); ++k) {
      if (IsFull(next.factors[k])) continue;
      RK_ASSIGN_OR_RETURN(next.factors[k], Leading(Projected(t, next.factors, k), k, ranks[k]));
    }
    next.core = Projected(t, next.factors, ranks.size());
    const double now = SquaredNorm(next.core);
    if (now <= kept) break;  // rounding: it has converged
    const bool converged = now - kept <= options.least_gain * whole;
    kept = now;
    tucker = std::move(next);
    if (converged) break;
  }
  return tucker;
}

Tensor64 TuckerProduct(const Tucker& tucker) {
  Tensor64 t = tucker.core;
  for (size_t k = 0; k < tucker.factors.size(); ++k) t = ModeProduct(t, k, tucker.factors[k]);
  return t;
}

}  // namespace rankine
