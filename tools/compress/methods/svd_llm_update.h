// `svd-llm-u`: svd-llm fitted to what the layer will really read, the inputs x' behind the factored
// layers; H1 = E[x' x'^T]. The paper's closed-form update (Wang et al., arXiv 2403.07378, and its
// public code) keeps V of the dense model's H and answers min_U E|W x' - U V x'|^2:
// U = W H1 V^T (V H1 V^T)^-1. The target is the original weight on the *new* inputs; siblings of
// the same layer are still dense when H1 is taken, so o_proj and down_proj do not see theirs
// factored.
// --target dense asks for W x instead, x being the dense model's input at the same token, which
// also corrects what the layers before have done to x: the least-squares map (ridge 0.01 tr(H1) / n
// towards W), truncated under H1.
// Ends the sorted leg where U's columns are fitted together.
#pragma once

#include "tools/compress/methods/method.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeSvdLlmUpdate(const MethodInput& input);

inline constexpr MethodOption kSvdLlmUpdateOptions[] = {
    {.name = "target",
     .kind = MethodOption::Kind::kWord,
     .default_value = "prefix",
     .help = "fit W x' (prefix), or what the dense model has there, W x (dense)",
     .words = "prefix dense"}};

inline constexpr Method kSvdLlmUpdateMethod{
    .name = "svd-llm-u",
    .help = "as svd-llm, U fitted to the inputs behind the factored layers",
    .needs_calibration = true,
    .sees_prefix = true,
    .options = kSvdLlmUpdateOptions,
    .factorize = &FactorizeSvdLlmUpdate,
};

}  // namespace rankine
