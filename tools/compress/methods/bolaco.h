// `bolaco` (Ji et al., arXiv 2405.10616): as lord, with the covariance pooled over groups of
// sequences: C = W (H - sum_g n_g/N mu_g mu_g^T) W^T, mu_g the mean of x in group g. A drift of the
// mean between groups is then no direction worth keeping. Its ranks come from Bayesian
// optimisation: --allocation bayes.
#pragma once

#include "tools/compress/methods/method.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeBolaco(const MethodInput& input);

inline constexpr Method kBolacoMethod{
    .name = "bolaco",
    .help = "as lord, with covariances within groups of 32 sequences",
    .needs_calibration = true,
    .adds_bias = [](const MethodSettings&) { return true; },
    .factorize = &FactorizeBolaco,
};

}  // namespace rankine
