// `fwsvd`: Fisher-weighted SVD (Hsu et al., arXiv 2207.00112). Input feature j is weighted by
// d_j = sqrt(sum_i E[g_ij^2]), the gradients g of the language-model loss: W' = SVD_r(W D) D^-1.
// (The paper's W is [in, out] and it weights rows.) As a weighted norm H = diag(d^2). Gradients
// come from PyTorch: tools/torch writes them.
#pragma once

#include "tools/compress/methods/method.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeFwsvd(const MethodInput& input);
absl::StatusOr<std::vector<double>> FwsvdSliceLosses(const MethodInput& input);

inline constexpr Method kFwsvdMethod{
    .name = "fwsvd",
    .help = "the norm of W - W', input features weighted by the loss's gradients (--fisher FILE)",
    .needs_fisher = true,
    .factorize = &FactorizeFwsvd,
    .slice_losses = &FwsvdSliceLosses,
};

}  // namespace rankine
