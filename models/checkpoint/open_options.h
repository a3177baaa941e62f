// What a user may have to say about a checkpoint that its files do not.
#pragma once

#include <cstdint>

namespace rankine {

// Of checkpoints with ALinear and BLinear: which is the left factor.
enum class FactorOrder : uint8_t {
  kByShapes,
  kAB,  // W = A B, A [out, r]: ASVD, LowRankArena
  kBA,  // W = B A, B [out, r]: Dobi-SVD
};

struct OpenOptions {
  FactorOrder factor_order = FactorOrder::kByShapes;
};

}  // namespace rankine
