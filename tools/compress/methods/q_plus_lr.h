// What the methods of the form Q + L R share: the rank that a budget leaves beside Q, and cores.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "tools/compress/ldlq.h"
#include "tools/compress/low_rank_fit.h"
#include "tools/compress/methods/method.h"

namespace rankine {

// Bits of Q [m, n] in `base`, of L [m, r] and R [r, n] in `factors`, and `extra` more (transforms).
int64_t QPlusLrBits(int64_t r, int64_t m, int64_t n, const Encoding& base, const Encoding& factors,
                    int64_t extra);

// The rank: the budget's own, or the largest whose L R fit beside Q into its bits.
// kInvalidArgument: a budget of parameters (Q holds all of them, so a share of them says nothing),
// bits below those of Q and one slice, or a rank outside [1, min(m, n)].
absl::StatusOr<int64_t> RankBesideBase(const Budget& budget, int64_t m, int64_t n,
                                       const Encoding& base, const Encoding& factors,
                                       int64_t extra);

// kInvalidArgument: not a block encoding, or one that rows of `cols` weights cannot have.
absl::Status CheckBase(const Encoding& base, int64_t cols);

// Two terms, Q and L R, as they were rounded. input.encoding is that of L and R.
absl::StatusOr<Factorization> StoreQPlusLr(const MethodInput& input, const Encoding& base,
                                           const RoundedMatrix& q, const LowRank& factors);

}  // namespace rankine
