// Encodings and random block rows for tests.
#pragma once

#include <random>
#include <vector>

#include "models/encode/block_storage.h"

namespace rankine::testing {

// Every combination that factorization.json can say, E8P too.
inline std::vector<Encoding> AllBlockEncodings() {
  std::vector<Encoding> all;
  for (const int group : {0, 16, 32, 64, 128}) {
    for (const ScaleKind scale :
         {ScaleKind::kF16, ScaleKind::kF32, ScaleKind::kTwoLevel, ScaleKind::kTwoLevelI8}) {
      const bool two_level = scale == ScaleKind::kTwoLevel || scale == ScaleKind::kTwoLevelI8;
      if (two_level && group == 0) continue;
      all.push_back({.kind = EncodingKind::kNf4, .group = group, .scale = scale});
      for (const int bits : {2, 3, 4, 5, 6, 8}) {
        for (const OffsetKind offset :
             {OffsetKind::kNone, OffsetKind::kPerGroup, OffsetKind::kTwoLevel}) {
          if (offset == OffsetKind::kTwoLevel && !two_level) continue;
          all.push_back({.kind = EncodingKind::kAffine,
                         .bits = static_cast<uint8_t>(bits),
                         .group = group,
                         .scale = scale,
                         .offset = offset});
        }
      }
    }
  }
  all.push_back({.kind = EncodingKind::kE8P, .scale = ScaleKind::kF32});
  return all;
}

// Any codes, and scales and offsets that their stored types hold.
inline BlockRowsBuffer RandomBlockRows(const Encoding& encoding, int64_t rows, int64_t cols,
                                       uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  BlockRowsBuffer out;
  ResizeBlockRows(encoding, rows, cols, &out);
  const int bits = encoding.kind == EncodingKind::kAffine ? encoding.bits
                   : encoding.kind == EncodingKind::kNf4  ? 4
                                                          : 8;
  for (uint8_t& code : out.codes) code = static_cast<uint8_t>(random() & ((1u << bits) - 1));
  for (auto* numbers : {&out.scales, &out.offsets}) {
    for (float& v : *numbers) v = ToFloat(ToF16(0.01f * normal(random)));
  }
  const bool is_signed = encoding.scale == ScaleKind::kTwoLevelI8;
  for (int8_t& code : out.scale_codes) {
    code = static_cast<int8_t>(is_signed ? random() & 255 : random() & 63);
  }
  for (int8_t& code : out.offset_codes) code = static_cast<int8_t>(random() & 63);
  return out;
}

}  // namespace rankine::testing
