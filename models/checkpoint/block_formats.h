// The tensor types of GGML: their names, block sizes and how a block decodes to floats. A block
// holds a fixed number of consecutive values of one row; the legacy types (Qn_0, Qn_1) hold 32, the
// K types 256 with scales on two levels. Layouts follow the GGUF specification; decoding is
// bit-equal to the `gguf` Python package.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace rankine {

// Values are those of the file format; only the types that can be decoded.
enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
};

struct BlockFormat {
  GgmlType type;
  std::string_view name;     // "Q4_1"
  int64_t values_per_block;  // 1 for F32, F16 and BF16
  int64_t bytes_per_block;
};

// Null when `type`, as the file has it, cannot be decoded.
const BlockFormat* FindBlockFormat(uint32_t type);
// Requires a GgmlType.
const BlockFormat& GetBlockFormat(GgmlType type);

// "IQ4_XS" for a type of GGML, "unknown type 99" for others.
std::string GgmlTypeName(uint32_t type);
// "F32, F16, ..." for messages.
std::string SupportedGgmlTypes();

// Q4_K and Q5_K share 12 bytes with 8 scales u6 and 8 minima u6: groups 0..3 take the low six bits
// of bytes 0..3 (scales) and 4..7 (minima); groups 4..7 take nibbles of bytes 8..11 and the top two
// bits of bytes 0..3 and 4..7.
struct KGroup {
  int scale;
  int minimum;
};
KGroup UnpackKGroup(const uint8_t* packed, int group);

// Decodes `num_blocks` blocks to out[num_blocks * values_per_block]. `blocks` needs no alignment.
// Values may be NaN or infinite when the scales in the file are.
void DecodeBlocks(GgmlType type, const uint8_t* blocks, int64_t num_blocks, float* out);

}  // namespace rankine
