// Codes of 2 to 8 bits as files hold them: without gaps, from the low bits of each byte up, the
// unused high bits of the last byte zero.
#pragma once

#include <cstdint>

#include "kernels/base/math.h"

namespace rankine {

constexpr int64_t PackedCodeBytes(int64_t count, int bits) { return CeilDiv(count * bits, 8); }

// out[0, PackedCodeBytes(count, bits)) from codes[0, count), each below 2^bits. bits in {2, 3, 4,
// 5, 6, 8}.
void PackCodes(const uint8_t* codes, int64_t count, int bits, uint8_t* out);

// The inverse. Reads PackedCodeBytes(count, bits) bytes and not one more.
void UnpackCodes(const uint8_t* packed, int64_t count, int bits, uint8_t* codes);

}  // namespace rankine
