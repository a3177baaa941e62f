#include "models/checkpoint/ggml_affine.h"

#include <cstring>

#include "kernels/base/check.h"
#include "models/checkpoint/ggml_blocks.h"

namespace rankine {
namespace {

// Bit j to bit 0 of byte j.
uint64_t SpreadBits(uint8_t bits) {
  // Byte j of a copy keeps bit j alone; adding 127 carries it to bit 7 of its byte.
  const uint64_t kept = bits * 0x0101010101010101ull & 0x8040201008040201ull;
  return (kept + 0x7f7f7f7f7f7f7f7full) >> 7 & 0x0101010101010101ull;
}

// Where the parts of one block go. Blocks and targets never overlap (__restrict lets the loops
// become vector code). Layouts of the blocks are described in block_formats.cc, beside
// their decoders.
struct Target {
  uint8_t* codes;
  float* scale;  // of the group, or of the super-block
  float* offset;
  int8_t* scale_codes;
  int8_t* offset_codes;
};

void SplitQ8_0(const uint8_t* __restrict block, const Target& out) {
  *out.scale = LoadHalf(block);
  for (int i = 0; i < kLegacyValues; ++i) {
    out.codes[i] = static_cast<uint8_t>(block[2 + i] ^ 0x80);  // signed + 128
  }
}

template <int kBits, bool kHasMinimum>
void SplitNibbles(const uint8_t* __restrict block, const Target& out) {
  *out.scale = LoadHalf(block);
  block += 2;
  if constexpr (kHasMinimum) {
    *out.offset = LoadHalf(block);
    block += 2;
  }
  const uint8_t* high_bits = block;
  if constexpr (kBits == 5) block += 4;
  for (int i = 0; i < kLegacyValues / 2; ++i) {
    out.codes[i] = block[i] & 15;
    out.codes[i + 16] = block[i] >> 4;
  }
  if constexpr (kBits == 5) {
    for (int byte = 0; byte < 4; ++byte) {
      uint64_t codes;
      std::memcpy(&codes, out.codes + 8 * byte, 8);
      codes |= SpreadBits(high_bits[byte]) << 4;
      std::memcpy(out.codes + 8 * byte, &codes, 8);
    }
  }
}

// Runs of 128 values from 32 bytes: two bits of each byte per run of 32.
void SplitPairs(const uint8_t* __restrict pairs, uint8_t* codes) {
  for (int run = 0; run < kSuperValues / 32; ++run) {
    const uint8_t* from = pairs + run / 4 * 32;
    const int shift = run % 4 * 2;
    for (int j = 0; j < 32; ++j) codes[run * 32 + j] = (from[j] >> shift) & 3;
  }
}

void SplitQ2K(const uint8_t* __restrict block, const Target& out) {
  *out.scale = LoadHalf(block + 80);
  *out.offset = -LoadHalf(block + 82);
  for (int group = 0; group < 16; ++group) {
    out.scale_codes[group] = static_cast<int8_t>(block[group] & 15);
    out.offset_codes[group] = static_cast<int8_t>(block[group] >> 4);
  }
  SplitPairs(block + 16, out.codes);
}

void SplitQ3K(const uint8_t* __restrict block, const Target& out) {
  const uint8_t* scales = block + 96;
  *out.scale = LoadHalf(block + 108);
  for (int group = 0; group < 16; ++group) {
    const int low = (scales[group % 8] >> (group / 8 * 4)) & 15;
    const int high = (scales[8 + group % 4] >> (group / 4 * 2)) & 3;
    out.scale_codes[group] = static_cast<int8_t>((low | high << 4) - 32);
  }
  SplitPairs(block + 32, out.codes);
  for (int run = 0; run < kSuperValues / 32; ++run) {
    uint8_t* codes = out.codes + run * 32;
    for (int j = 0; j < 32; ++j) {
      codes[j] = static_cast<uint8_t>(codes[j] | ((block[j] >> run) & 1) << 2);
    }
  }
}

template <int kBits>
void SplitQ45K(const uint8_t* __restrict block, const Target& out) {
  *out.scale = LoadHalf(block);
  *out.offset = -LoadHalf(block + 2);
  for (int group = 0; group < 8; ++group) {
    const KGroup k = UnpackKGroup(block + 4, group);
    out.scale_codes[group] = static_cast<int8_t>(k.scale);
    out.offset_codes[group] = static_cast<int8_t>(k.minimum);
  }
  const uint8_t* fifth_bits = block + 16;
  const uint8_t* nibbles = block + (kBits == 5 ? 48 : 16);
  for (int group = 0; group < 8; ++group) {
    const uint8_t* from = nibbles + group / 2 * 32;
    const int shift = group % 2 * 4;
    uint8_t* codes = out.codes + group * 32;
    for (int j = 0; j < 32; ++j) {
      int code = (from[j] >> shift) & 15;
      if constexpr (kBits == 5) code |= ((fifth_bits[j] >> group) & 1) << 4;
      codes[j] = static_cast<uint8_t>(code);
    }
  }
}

void SplitQ6K(const uint8_t* __restrict block, const Target& out) {
  *out.scale = LoadHalf(block + 208);
  std::memcpy(out.scale_codes, block + 192, 16);
  for (int run = 0; run < kSuperValues / 32; ++run) {
    const uint8_t* low = block + run / 4 * 64 + run % 2 * 32;
    const uint8_t* high = block + 128 + run / 4 * 32;
    const int low_shift = run % 4 / 2 * 4, high_shift = run % 4 * 2;
    uint8_t* codes = out.codes + run * 32;
    for (int j = 0; j < 32; ++j) {
      const int code = ((low[j] >> low_shift) & 15) | ((high[j] >> high_shift) & 3) << 4;
      codes[j] = static_cast<uint8_t>(code);
    }
  }
}

using Split = void (*)(const uint8_t*, const Target&);

Split SplitOf(GgmlType type) {
  switch (type) {
    case GgmlType::kQ8_0:
      return SplitQ8_0;
    case GgmlType::kQ4_0:
      return SplitNibbles<4, false>;
    case GgmlType::kQ4_1:
      return SplitNibbles<4, true>;
    case GgmlType::kQ5_0:
      return SplitNibbles<5, false>;
    case GgmlType::kQ5_1:
      return SplitNibbles<5, true>;
    case GgmlType::kQ2_K:
      return SplitQ2K;
    case GgmlType::kQ3_K:
      return SplitQ3K;
    case GgmlType::kQ4_K:
      return SplitQ45K<4>;
    case GgmlType::kQ5_K:
      return SplitQ45K<5>;
    case GgmlType::kQ6_K:
      return SplitQ6K;
    default:
      return nullptr;
  }
}

}  // namespace

std::optional<Encoding> AffineEncoding(GgmlType type) {
  Encoding e{.kind = EncodingKind::kAffine, .group = kLegacyValues};
  const auto with = [&](uint8_t bits, int32_t group, ScaleKind scale, OffsetKind offset) {
    e.bits = bits;
    e.group = group;
    e.scale = scale;
    e.offset = offset;
    return e;
  };
  switch (type) {
    case GgmlType::kQ8_0:
      return with(8, 32, ScaleKind::kF16, OffsetKind::kNone);
    case GgmlType::kQ4_0:
      return with(4, 32, ScaleKind::kF16, OffsetKind::kNone);
    case GgmlType::kQ4_1:
      return with(4, 32, ScaleKind::kF16, OffsetKind::kPerGroup);
    case GgmlType::kQ5_0:
      return with(5, 32, ScaleKind::kF16, OffsetKind::kNone);
    case GgmlType::kQ5_1:
      return with(5, 32, ScaleKind::kF16, OffsetKind::kPerGroup);
    case GgmlType::kQ2_K:
      return with(2, 16, ScaleKind::kTwoLevel, OffsetKind::kTwoLevel);
    case GgmlType::kQ3_K:
      return with(3, 16, ScaleKind::kTwoLevelI8, OffsetKind::kNone);
    case GgmlType::kQ4_K:
      return with(4, 32, ScaleKind::kTwoLevel, OffsetKind::kTwoLevel);
    case GgmlType::kQ5_K:
      return with(5, 32, ScaleKind::kTwoLevel, OffsetKind::kTwoLevel);
    case GgmlType::kQ6_K:
      return with(6, 16, ScaleKind::kTwoLevelI8, OffsetKind::kNone);
    default:
      return std::nullopt;
  }
}

void SplitBlocks(GgmlType type, const uint8_t* blocks, int64_t row, BlockRowsBuffer* out) {
  const Split split = SplitOf(type);
  RK_CHECK(split != nullptr);
  const BlockFormat& format = GetBlockFormat(type);
  const int64_t num_blocks = out->cols / format.values_per_block;
  const bool two_level = out->encoding.HasTwoLevelScales();
  const int64_t groups = two_level ? format.values_per_block / out->encoding.group : 0;
  const auto at = [](auto& numbers, int64_t index) {
    return numbers.empty() ? nullptr : numbers.data() + index;
  };
  for (int64_t b = 0; b < num_blocks; ++b) {
    const int64_t block = row * num_blocks + b;
    split(blocks + b * format.bytes_per_block,
          {.codes = out->codes.data() + block * format.values_per_block,
           .scale = out->scales.data() + block,
           .offset = at(out->offsets, block),
           .scale_codes = at(out->scale_codes, block * groups),
           .offset_codes = at(out->offset_codes, block * groups)});
  }
}

}  // namespace rankine
