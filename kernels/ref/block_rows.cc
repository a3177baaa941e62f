#include "kernels/api/block_rows.h"

#include "kernels/base/check.h"
#include "kernels/base/e8p.h"

namespace rankine {
namespace {

float GroupNumber(const float* numbers, const int8_t* codes, const BlockRows& rows, int64_t row,
                  int64_t col) {
  const int64_t group = row * rows.groups() + col / rows.encoding.GroupColumns(rows.cols);
  if (codes == nullptr) return numbers[group];
  return numbers[row * rows.supers() + col / kSuperBlockColumns] * static_cast<float>(codes[group]);
}

void DecodeE8PRow(const BlockRows& rows, int64_t row, float* out) {
  RK_CHECK(rows.cols % kE8PColumns == 0);
  const uint8_t* bytes = rows.codes + row * rows.code_bytes_per_row();
  for (int64_t col = 0; col < rows.cols; col += kE8PColumns, bytes += 2) {
    int8_t quarters[kE8PColumns];
    DecodeE8P(static_cast<uint16_t>(bytes[0] | bytes[1] << 8), quarters);
    for (int i = 0; i < kE8PColumns; ++i) {
      out[col + i] = rows.scales[0] * (static_cast<float>(quarters[i]) * 0.25f);
    }
  }
}

}  // namespace

void DecodeBlockRow(const BlockRows& rows, int64_t row, float* out) {
  const Encoding& encoding = rows.encoding;
  RK_CHECK(!encoding.IsFloat());
  if (encoding.kind == EncodingKind::kE8P) return DecodeE8PRow(rows, row, out);
  const uint8_t* codes = rows.codes + row * rows.cols;
  for (int64_t col = 0; col < rows.cols; ++col) {
    const float scale = GroupNumber(rows.scales, rows.scale_codes, rows, row, col);
    if (encoding.kind == EncodingKind::kNf4) {
      out[col] = scale * kNf4Levels[codes[col]];
      continue;
    }
    out[col] = scale * static_cast<float>(codes[col] - encoding.ZeroCode());
    if (rows.offsets != nullptr) {
      out[col] += GroupNumber(rows.offsets, rows.offset_codes, rows, row, col);
    }
  }
}

}  // namespace rankine
