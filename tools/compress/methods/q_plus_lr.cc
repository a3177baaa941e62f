#include "tools/compress/methods/q_plus_lr.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "models/encode/block_storage.h"
#include "models/encode/encoding_name.h"
#include "models/encode/quantise.h"
#include "models/status_macros.h"
#include "tools/compress/methods/store.h"

namespace rankine {
namespace {

absl::Status AddRounded(const CoreArgs& args, const RoundedMatrix& rounded, Term* term,
                        std::vector<StoredTensor>* tensors) {
  if (!args.encoding.IsFloat()) return AddBlockCore(args, rounded.codes, term, tensors);
  CoreArgs with_values = args;
  with_values.values = rounded.values.values;
  return AddCore(with_values, term, tensors);
}

}  // namespace

int64_t QPlusLrBits(int64_t r, int64_t m, int64_t n, const Encoding& base, const Encoding& factors,
                    int64_t extra) {
  return 8 * (StoredBytes(base, m, n) + StoredBytes(factors, m, r) + StoredBytes(factors, r, n)) +
         extra;
}

absl::Status CheckBase(const Encoding& base, int64_t cols) {
  if (base.IsFloat()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--base-encode ", EncodingName(base),
                     " is a float encoding, which leaves nothing to L R: give one in blocks, as "
                     "int4:g64, nf4 or e8p"));
  }
  return CheckCanEncode(base, cols);
}

absl::StatusOr<int64_t> RankBesideBase(const Budget& budget, int64_t m, int64_t n,
                                       const Encoding& base, const Encoding& factors,
                                       int64_t extra) {
  const int64_t most = std::min(m, n);
  if (budget.rank != 0) {
    if (budget.rank >= 1 && budget.rank <= most) return budget.rank;
    return absl::InvalidArgumentError(absl::StrCat("rank ", budget.rank, " is outside [1, ", most,
                                                   "] of a ", m, " x ", n, " matrix"));
  }
  if (budget.bits <= 0) {
    return absl::InvalidArgumentError(
        "Q + L R has a budget of bits: a share of parameters (--keep) says nothing about Q, which "
        "holds them all; give --bits, --bytes or --rank");
  }
  const auto fits = [&](int64_t r) {
    return static_cast<double>(QPlusLrBits(r, m, n, base, factors, extra)) <= budget.bits;
  };
  int64_t rank = 0;
  for (int64_t high = most; rank < high;) {
    const int64_t middle = (rank + high + 1) / 2;
    fits(middle) ? rank = middle : high = middle - 1;
  }
  if (rank < 1) {
    const auto weights = static_cast<double>(m * n);
    return absl::InvalidArgumentError(absl::StrCat(
        "the budget of ", budget.bits / weights, " bits a weight is below ",
        static_cast<double>(QPlusLrBits(1, m, n, base, factors, extra)) / weights, ", what Q in ",
        EncodingName(base), " takes with one slice of L R in ", EncodingName(factors),
        "; raise it, choose a smaller --base-encode, or leave the linear out with --skip"));
  }
  const int64_t multiple = std::max<int64_t>(budget.rank_multiple, 1);
  return rank >= multiple ? rank - rank % multiple : rank;
}

absl::StatusOr<Factorization> StoreQPlusLr(const MethodInput& input, const Encoding& base,
                                           const RoundedMatrix& q, const LowRank& factors) {
  const int64_t m = q.values.rows, n = q.values.cols, r = factors.left.values.cols;
  Factorization result{.matrix = MatrixOf(input), .rank = r};
  const LegRange o{"o", 0, m}, i{"i", 0, n}, bond{"r", 0, r};
  const auto add = [&](const char* name, std::vector<LegRange> legs, const Encoding& encoding,
                       const RoundedMatrix& rounded, Term* term) {
    return AddRounded(
        {.matrix = input.name, .name = name, .legs = std::move(legs), .encoding = encoding},
        rounded, term, &result.tensors);
  };
  Term base_term, low_rank_term;
  RK_RETURN_IF_ERROR(add("Q", {o, i}, base, q, &base_term));
  RK_RETURN_IF_ERROR(add("L", {o, bond}, input.encoding, factors.left, &low_rank_term));
  RK_RETURN_IF_ERROR(add("R", {bond, i}, input.encoding, factors.right, &low_rank_term));
  result.matrix.terms = {std::move(base_term), std::move(low_rank_term)};
  return result;
}

}  // namespace rankine
