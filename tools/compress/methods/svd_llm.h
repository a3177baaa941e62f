// `svd-llm` (Wang et al., arXiv 2403.07378): the best rank-r weight for the inputs that the layer
// really sees, ||(W - W') X||_F, through the second moments H of the dense model's activations. No
// update step: with H from the dense model it changes nothing, and it would end the sorted leg.
#pragma once

#include "tools/compress/methods/method.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeSvdLlm(const MethodInput& input);
absl::StatusOr<std::vector<double>> SvdLlmSliceLosses(const MethodInput& input);

inline constexpr Method kSvdLlmMethod{
    .name = "svd-llm",
    .help = "the norm of (W - W') X over the calibration text",
    .needs_calibration = true,
    .factorize = &FactorizeSvdLlm,
    .slice_losses = &SvdLlmSliceLosses,
};

}  // namespace rankine
