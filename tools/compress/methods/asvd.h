// `asvd`: activation-aware SVD (Yuan et al., arXiv 2312.05821). Input feature j is scaled by
// s_j = (mean |x_j|)^alpha before the SVD and back after it: W' = SVD_r(W diag(s)) diag(s)^-1. As a
// weighted norm that is H = diag(s^2), so nothing is divided and features that are never used
// need no damping.
#pragma once

#include "tools/compress/methods/method.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeAsvd(const MethodInput& input);
absl::StatusOr<std::vector<double>> AsvdSliceLosses(const MethodInput& input);

inline constexpr MethodOption kAsvdOptions[] = {
    {.name = "alpha",
     .kind = MethodOption::Kind::kNumber,
     .default_value = "0.5",
     .help = "how much large activations count: 0 is plain svd",
     .min = 0,
     .max = 2}};

inline constexpr Method kAsvdMethod{
    .name = "asvd",
    .help = "the norm of W - W', input features scaled by their mean |x| to the alpha",
    .needs_calibration = true,
    .options = kAsvdOptions,
    .factorize = &FactorizeAsvd,
    .slice_losses = &AsvdSliceLosses,
};

}  // namespace rankine
