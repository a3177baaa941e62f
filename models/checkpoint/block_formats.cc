#include "models/checkpoint/block_formats.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/dtype.h"
#include "models/checkpoint/ggml_blocks.h"

namespace rankine {
namespace {

constexpr BlockFormat kFormats[] = {
    {GgmlType::kF32, "F32", 1, 4},       {GgmlType::kF16, "F16", 1, 2},
    {GgmlType::kBF16, "BF16", 1, 2},     {GgmlType::kQ8_0, "Q8_0", 32, 34},
    {GgmlType::kQ4_0, "Q4_0", 32, 18},   {GgmlType::kQ4_1, "Q4_1", 32, 20},
    {GgmlType::kQ5_0, "Q5_0", 32, 22},   {GgmlType::kQ5_1, "Q5_1", 32, 24},
    {GgmlType::kQ2_K, "Q2_K", 256, 84},  {GgmlType::kQ3_K, "Q3_K", 256, 110},
    {GgmlType::kQ4_K, "Q4_K", 256, 144}, {GgmlType::kQ5_K, "Q5_K", 256, 176},
    {GgmlType::kQ6_K, "Q6_K", 256, 210},
};

struct TypeName {
  uint32_t type;
  std::string_view name;
};

// Types of GGML that are refused, so that the message can say which one it was.
constexpr TypeName kRefusedTypes[] = {
    {4, "Q4_2"},      {5, "Q4_3"},     {9, "Q8_1"},   {15, "Q8_K"},     {16, "IQ2_XXS"},
    {17, "IQ2_XS"},   {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"},   {21, "IQ3_S"},
    {22, "IQ2_S"},    {23, "IQ4_XS"},  {24, "I8"},    {25, "I16"},      {26, "I32"},
    {27, "I64"},      {28, "F64"},     {29, "IQ1_M"}, {31, "Q4_0_4_4"}, {32, "Q4_0_4_8"},
    {33, "Q4_0_8_8"}, {34, "TQ1_0"},   {35, "TQ2_0"}, {39, "MXFP4"},
};

template <class T>
T Load(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

// F32, F16 and BF16.
template <class T>
void DecodeFloats(const uint8_t* in, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    if constexpr (sizeof(T) == 4) {
      out[i] = Load<float>(in + 4 * i);
    } else {
      out[i] = ToFloat(T{Load<uint16_t>(in + 2 * i)});
    }
  }
}

// scale f16, 32 codes i8.
void DecodeQ8_0(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  for (int i = 0; i < kLegacyValues; ++i) {
    out[i] = scale * static_cast<float>(static_cast<int8_t>(block[2 + i]));
  }
}

// The legacy 4 and 5 bit types: scale f16, then the minimum f16 (Qn_1), then the fifth bits u32
// (Q5), then 16 bytes whose low nibbles are values 0..15 and whose high nibbles are values 16..31.
template <int kBits, bool kHasMinimum>
void DecodeNibbles(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  block += 2;
  float minimum = 0.0f;
  if constexpr (kHasMinimum) {
    minimum = LoadHalf(block);
    block += 2;
  }
  uint32_t high_bits = 0;
  if constexpr (kBits == 5) {
    high_bits = Load<uint32_t>(block);
    block += 4;
  }
  for (int i = 0; i < kLegacyValues; ++i) {
    const int nibble = i < 16 ? block[i] & 15 : block[i - 16] >> 4;
    const int code = nibble | static_cast<int>(((high_bits >> i) & 1u) << 4);
    if constexpr (kHasMinimum) {
      out[i] = scale * static_cast<float>(code) + minimum;
    } else {
      out[i] = scale * static_cast<float>(code - (1 << (kBits - 1)));
    }
  }
}

// 16 groups of 16: scales u4 and minima u4 in 16 bytes, codes u2 in 64 bytes, scale f16, minimum
// f16. Each 32 code bytes hold 128 values: two bits of each byte per run of 32.
void DecodeQ2K(const uint8_t* block, float* out) {
  const uint8_t* codes = block + 16;
  const float scale = LoadHalf(block + 80);
  const float minimum = LoadHalf(block + 82);
  for (int i = 0; i < kSuperValues; ++i) {
    const int group = i / 16;
    const float group_scale = scale * static_cast<float>(block[group] & 15);
    const float group_minimum = minimum * static_cast<float>(block[group] >> 4);
    const int code = (codes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3;
    out[i] = group_scale * static_cast<float>(code) - group_minimum;
  }
}

// 16 groups of 16: third bits in 32 bytes (bit b of byte j belongs to value 32 b + j), codes u2 as
// in Q2_K, 16 scales u6 less 32 in 12 bytes (8 bytes of low nibbles, 4 bytes of high bit pairs),
// scale f16. A code is signed: a *cleared* third bit means minus 4.
void DecodeQ3K(const uint8_t* block, float* out) {
  const uint8_t* codes = block + 32;
  const uint8_t* scales = block + 96;
  const float scale = LoadHalf(block + 108);
  float group_scales[16];
  for (int group = 0; group < 16; ++group) {
    const int low = (scales[group % 8] >> (group / 8 * 4)) & 15;
    const int high = (scales[8 + group % 4] >> (group / 4 * 2)) & 3;
    group_scales[group] = scale * static_cast<float>((low | high << 4) - 32);
  }
  for (int i = 0; i < kSuperValues; ++i) {
    const int low = (codes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3;
    const int third = (block[i % 32] >> (i / 32)) & 1;
    out[i] = group_scales[i / 16] * static_cast<float>(low - (third ? 0 : 4));
  }
}

// 8 groups of 32: scale f16, minimum f16, 12 bytes of group scales, the fifth bits in 32 bytes
// (Q5_K: bit g of byte j belongs to value 32 g + j), nibbles in 128 bytes: each 32 bytes hold two
// groups, low nibbles first.
template <int kBits>
void DecodeQ45K(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const float minimum = LoadHalf(block + 2);
  const uint8_t* packed = block + 4;
  const uint8_t* fifth_bits = block + 16;
  const uint8_t* nibbles = block + (kBits == 5 ? 48 : 16);
  for (int group = 0; group < 8; ++group) {
    const KGroup k = UnpackKGroup(packed, group);
    const float group_scale = scale * static_cast<float>(k.scale);
    const float group_minimum = minimum * static_cast<float>(k.minimum);
    for (int j = 0; j < 32; ++j) {
      int code = (nibbles[group / 2 * 32 + j] >> (group % 2 * 4)) & 15;
      if constexpr (kBits == 5) code |= ((fifth_bits[j] >> group) & 1) << 4;
      out[group * 32 + j] = group_scale * static_cast<float>(code) - group_minimum;
    }
  }
}

// 16 groups of 16: low nibbles in 128 bytes (64 bytes per 128 values, low nibbles first), high bit
// pairs in 64 bytes (32 bytes per 128 values), scales i8 in 16 bytes, scale f16. A code is u6
// less 32.
void DecodeQ6K(const uint8_t* block, float* out) {
  const uint8_t* high_bits = block + 128;
  const uint8_t* scales = block + 192;
  const float scale = LoadHalf(block + 208);
  for (int i = 0; i < kSuperValues; ++i) {
    const float group_scale = scale * static_cast<float>(static_cast<int8_t>(scales[i / 16]));
    const int low = (block[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4)) & 15;
    const int high = (high_bits[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3;
    out[i] = group_scale * static_cast<float>((low | high << 4) - 32);
  }
}

template <void (*kDecode)(const uint8_t*, float*)>
void ForEachBlock(const BlockFormat& format, const uint8_t* blocks, int64_t num_blocks,
                  float* out) {
  for (int64_t b = 0; b < num_blocks; ++b) {
    kDecode(blocks + b * format.bytes_per_block, out + b * format.values_per_block);
  }
}

}  // namespace

KGroup UnpackKGroup(const uint8_t* packed, int group) {
  if (group < 4) return {packed[group] & 63, packed[group + 4] & 63};
  return {(packed[group + 4] & 15) | (packed[group - 4] >> 6 << 4),
          (packed[group + 4] >> 4) | (packed[group] >> 6 << 4)};
}

const BlockFormat* FindBlockFormat(uint32_t type) {
  for (const BlockFormat& format : kFormats) {
    if (static_cast<uint32_t>(format.type) == type) return &format;
  }
  return nullptr;
}

const BlockFormat& GetBlockFormat(GgmlType type) {
  const BlockFormat* format = FindBlockFormat(static_cast<uint32_t>(type));
  RK_CHECK(format != nullptr);
  return *format;
}

std::string GgmlTypeName(uint32_t type) {
  if (const BlockFormat* format = FindBlockFormat(type)) return std::string(format->name);
  for (const TypeName& refused : kRefusedTypes) {
    if (refused.type == type) return std::string(refused.name);
  }
  return absl::StrCat("unknown type ", type);
}

std::string SupportedGgmlTypes() {
  std::string names;
  for (const BlockFormat& format : kFormats) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", std::string(format.name));
  }
  return names;
}

void DecodeBlocks(GgmlType type, const uint8_t* blocks, int64_t num_blocks, float* out) {
  const BlockFormat& format = GetBlockFormat(type);
  switch (type) {
    case GgmlType::kF32:
      return DecodeFloats<float>(blocks, num_blocks, out);
    case GgmlType::kF16:
      return DecodeFloats<F16>(blocks, num_blocks, out);
    case GgmlType::kBF16:
      return DecodeFloats<BF16>(blocks, num_blocks, out);
    case GgmlType::kQ8_0:
      return ForEachBlock<DecodeQ8_0>(format, blocks, num_blocks, out);
    case GgmlType::kQ4_0:
      return ForEachBlock<DecodeNibbles<4, false>>(format, blocks, num_blocks, out);
    case GgmlType::kQ4_1:
      return ForEachBlock<DecodeNibbles<4, true>>(format, blocks, num_blocks, out);
    case GgmlType::kQ5_0:
      return ForEachBlock<DecodeNibbles<5, false>>(format, blocks, num_blocks, out);
    case GgmlType::kQ5_1:
      return ForEachBlock<DecodeNibbles<5, true>>(format, blocks, num_blocks, out);
    case GgmlType::kQ2_K:
      return ForEachBlock<DecodeQ2K>(format, blocks, num_blocks, out);
    case GgmlType::kQ3_K:
      return ForEachBlock<DecodeQ3K>(format, blocks, num_blocks, out);
    case GgmlType::kQ4_K:
      return ForEachBlock<DecodeQ45K<4>>(format, blocks, num_blocks, out);
    case GgmlType::kQ5_K:
      return ForEachBlock<DecodeQ45K<5>>(format, blocks, num_blocks, out);
    case GgmlType::kQ6_K:
      return ForEachBlock<DecodeQ6K>(format, blocks, num_blocks, out);
  }
}

}  // namespace rankine
