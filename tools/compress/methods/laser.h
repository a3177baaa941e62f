// `laser` (Sharma et al., arXiv 2312.13558): plain svd, at a rank that need not be small: where the
// factors take fewer numbers than the weight they are stored, and where not W' itself is, dense.
// Which linears, and at which ranks: --allocation laser.
#pragma once

#include "tools/compress/methods/method.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeLaser(const MethodInput& input);

inline constexpr Method kLaserMethod{
    .name = "laser",
    .help = "as svd, W' stored dense where its factors are not smaller",
    .default_allocation = "laser",
    .factorize = &FactorizeLaser,
};

}  // namespace rankine
