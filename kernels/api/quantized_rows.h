// Activations quantised to int8 at run time, as products with block-encoded weights read them.
//
// A row is a run of records, one for each 64 columns:
//   codes  i8 [64]   round-to-nearest-even(x / scale), zero beyond the last column
//   scale  f32       max|x| / 127 over the record; 0 when all are zero
//   sums   i32 [7]   minus the sums of codes over the four 16s, the two 32s and the 64 columns
// so that a group of 16, 32 or 64 weights with an offset or a zero code needs no pass over x:
// minus, because a zero code z starts the integer dot product at -z x sum. In a MatrixView of dtype
// kI8 `cols` counts columns and `stride` bytes.
#pragma once

#include <cstdint>

#include "kernels/base/math.h"

namespace rankine {

inline constexpr int64_t kRecordColumns = 64;

struct QuantizedRecord {
  int8_t codes[kRecordColumns];
  float scale;
  int32_t minus_sums16[4];
  int32_t minus_sums32[2];
  int32_t minus_sum64;
};
static_assert(sizeof(QuantizedRecord) == 96);

constexpr int64_t QuantizedRowBytes(int64_t cols) {
  return CeilDiv(cols, kRecordColumns) * static_cast<int64_t>(sizeof(QuantizedRecord));
}

}  // namespace rankine
