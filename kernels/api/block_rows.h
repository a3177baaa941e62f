// Rows of a block-encoded matrix in a neutral form, one code to a byte: what readers of checkpoints
// and quantisers produce, and what `pack_blocks` takes.
//
// value = scale x (code - zero) + offset, with zero = Encoding::ZeroCode() and
//   one level:   scale = scales[row, group]
//   two levels:  scale = scales[row, super-block] x scale_codes[row, group], exact in f32;
// offsets likewise. nf4: value = scale x kNf4Levels[code]. e8p: value = scales[0] x the weight that
// its codeword gives (kernels/base/e8p.h); cols is a multiple of 8. In f32 the product is rounded,
// then the sum.
#pragma once

#include <cstdint>

#include "kernels/base/encoding.h"
#include "kernels/base/math.h"

namespace rankine {

struct BlockRows {
  Encoding encoding;  // not kFloat
  int64_t rows = 0;
  int64_t cols = 0;
  // kAffine, kNf4: [rows, cols], one unsigned code a byte. kE8P: [rows, cols / 4] bytes, a
  // little-endian 16-bit codeword for 8 columns.
  const uint8_t* codes = nullptr;
  // [rows, groups()], or [rows, supers()] where scales are of two levels, or [1] (kE8P).
  const float* scales = nullptr;
  const float* offsets = nullptr;        // null without offsets
  const int8_t* scale_codes = nullptr;   // [rows, groups()], two levels only
  const int8_t* offset_codes = nullptr;  // [rows, groups()], two-level offsets only

  int64_t groups() const { return CeilDiv(cols, encoding.GroupColumns(cols)); }
  int64_t supers() const { return CeilDiv(cols, kSuperBlockColumns); }
  int64_t code_bytes_per_row() const {
    return encoding.kind == EncodingKind::kE8P ? cols / 4 : cols;
  }
};

// The sixteen levels of NF4 (QLoRA, arXiv 2305.14314, appendix E).
inline constexpr float kNf4Levels[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

// out[0, rows.cols) = the values of a row, as kernels define them.
void DecodeBlockRow(const BlockRows& rows, int64_t row, float* out);

}  // namespace rankine
