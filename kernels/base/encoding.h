// How the numbers of a stored core are encoded: plain floats, the affine block family, or a
// codebook. This is the whole language of factorization.json version 1; kernels execute a part of
// it.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/e8p.h"

namespace rankine {

enum class EncodingKind : uint8_t { kFloat, kAffine, kNf4, kE8P };
// Scales of a block family: one number per group, or an f16 scale of a super-block of
// kSuperBlockColumns times a small integer per group: 6 bits unsigned (kTwoLevel) or 8 bits signed
// (kTwoLevelI8, as GGUF's Q3_K and Q6_K have it).
enum class ScaleKind : uint8_t { kF16, kF32, kTwoLevel, kTwoLevelI8 };
// kTwoLevel: 6-bit unsigned integers times an f16 number of the super-block; the scales are then of
// two levels too.
enum class OffsetKind : uint8_t { kNone, kPerGroup, kTwoLevel };

inline constexpr int64_t kSuperBlockColumns = 256;

struct Encoding {
  EncodingKind kind = EncodingKind::kFloat;
  DType dtype = DType::kF32;  // kFloat only: kF32, kF16 or kBF16
  // kAffine: value = scale x code + offset. bits in {2, 3, 4, 5, 6, 8}.
  uint8_t bits = 0;
  // Weights that share a scale: 16, 32, 64, 128, or 0 = a whole row. kAffine and kNf4.
  int32_t group = 0;
  ScaleKind scale = ScaleKind::kF16;
  OffsetKind offset = OffsetKind::kNone;

  static constexpr Encoding Float(DType dtype) { return Encoding{.dtype = dtype}; }
  bool IsFloat() const { return kind == EncodingKind::kFloat; }
  bool HasTwoLevelScales() const {
    return scale == ScaleKind::kTwoLevel || scale == ScaleKind::kTwoLevelI8;
  }
  bool HasF32Scales() const { return kind == EncodingKind::kE8P || scale == ScaleKind::kF32; }
  bool HasOffsets() const { return kind == EncodingKind::kAffine && offset != OffsetKind::kNone; }
  // The unsigned code that stands for zero, of kAffine without offsets and of kE8P (quarters).
  int ZeroCode() const {
    if (kind == EncodingKind::kE8P) return kE8PZeroCode;
    return kind == EncodingKind::kAffine && offset == OffsetKind::kNone ? 1 << (bits - 1) : 0;
  }
  // Columns that share a scale, in a row of `cols` columns. kE8P: all of them.
  int64_t GroupColumns(int64_t cols) const {
    return kind == EncodingKind::kE8P || group == 0 ? cols : group;
  }
  bool operator==(const Encoding&) const = default;
};

}  // namespace rankine
