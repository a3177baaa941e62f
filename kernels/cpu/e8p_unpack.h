// E8P codewords to unsigned bytes, for instruction sets without a byte-wise table lookup of their
// own.
#pragma once

#include <cstdint>

namespace rankine {

// The codes of a step as kE8PZeroCode + quarters, in the vectors of 8-bit codes:
// [16 quads][16 outputs][4].
void UnpackE8PStep(const uint8_t* codes, uint8_t* quads);

// Of outputs 8 half .. 8 half + 7 alone: [16 quads][8 outputs][4].
void UnpackE8PHalf(const uint8_t* codes, int half, uint8_t* quads);

}  // namespace rankine
