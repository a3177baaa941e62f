// How the numbers of a stored core are encoded: plain floats, the affine block family, or a
// codebook. This is the whole language of factorization.json version 1; kernels execute a part of
// it.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

namespace rankine {

enum class EncodingKind : uint8_t { kFloat, kAffine, kNf4, kE8P };
// Scales of a block family: one number per group, or a super-block scale times a 6-bit scale.
enum class ScaleKind : uint8_t { kF16, kF32, kTwoLevel };
enum class OffsetKind : uint8_t { kNone, kPerGroup, kTwoLevel };

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
  bool operator==(const Encoding&) const = default;
};

}  // namespace rankine
