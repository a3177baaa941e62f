// `svd`: the truncated singular value decomposition of the weight alone, blind to its inputs. The
// baseline: useless on language models at any size that saves much, because a few input features
// carry most of the activations.
#pragma once

#include "tools/compress/methods/method.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeSvd(const MethodInput& input);
absl::StatusOr<std::vector<double>> SvdSliceLosses(const MethodInput& input);

inline constexpr Method kSvdMethod{
    .name = "svd",
    .help = "the Frobenius norm of W - W'",
    .factorize = &FactorizeSvd,
    .slice_losses = &SvdSliceLosses,
};

}  // namespace rankine
