#include "tools/compress/methods/laser.h"

#include "models/status_macros.h"
#include "tools/compress/methods/store.h"

namespace rankine {
namespace {

absl::StatusOr<Factorization> StoreDense(const MethodInput& input, const SvdFactors& factors) {
  const Matrix64 product = ProductOf(factors);
  Factorization result{.matrix = MatrixOf(input), .rank = static_cast<int64_t>(factors.s.size())};
  Term term;
  RK_RETURN_IF_ERROR(AddCore({.matrix = input.name,
                              .name = "weight",
                              .legs = {{"o", 0, product.rows}, {"i", 0, product.cols}},
                              .encoding = input.encoding,
                              .values = product.values},
                             &term, &result.tensors));
  result.matrix.terms.push_back(std::move(term));
  return result;
}

}  // namespace

absl::StatusOr<Factorization> FactorizeLaser(const MethodInput& input) {
  const Matrix64& w = *input.weight;
  RK_ASSIGN_OR_RETURN(const int64_t rank, RankWithin(input.budget, w.rows, w.cols, input.encoding));
  if (rank == 0) return Factorization{};
  RK_ASSIGN_OR_RETURN(const SvdFactors factors, TruncatedSvd(w, rank));
  const bool is_smaller = rank * (w.rows + w.cols) < w.rows * w.cols;
  return is_smaller ? StoreSvd(input, factors) : StoreDense(input, factors);
}

}  // namespace rankine
