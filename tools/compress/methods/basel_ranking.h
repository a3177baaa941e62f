// `basel-ranking`: the plain SVD of W, of whose bases u_k v_k^T those with the greatest
// sigma_k^2 v_k^T H v_k are kept, where H are the second moments of the inputs. It ranks as Basel
// does (Li et al., arXiv 2405.15877) but for the output's energy in place of importances learnt by
// gradients of the task's loss, which come from PyTorch; it re-learns nothing.
#pragma once

#include "tools/compress/methods/method.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeBaselRanking(const MethodInput& input);

inline constexpr Method kBaselRankingMethod{
    .name = "basel-ranking",
    .help = "nothing: the bases of svd(W) with the greatest sigma^2 v^T H v",
    .needs_calibration = true,
    .factorize = &FactorizeBaselRanking,
};

}  // namespace rankine
