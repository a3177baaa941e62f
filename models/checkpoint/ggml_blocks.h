// What the decoders of GGML's blocks (block_formats.cc) and their split into parts (ggml_affine.cc)
// have in common.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/base/dtype.h"

namespace rankine {

// Values of a block: of the first formats, and of those with two levels of scales.
inline constexpr int kLegacyValues = 32;
inline constexpr int kSuperValues = 256;

inline float LoadHalf(const uint8_t* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  return ToFloat(F16{bits});
}

}  // namespace rankine
