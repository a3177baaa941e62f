#include "tools/compress/block_rounder.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/base/e8p.h"
#include "models/encode/block_storage.h"
#include "models/encode/e8p_rows.h"
#include "models/encode/quantise.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

double RoundFloat(DType dtype, double value) {
  const auto f = static_cast<float>(value);
  if (dtype == DType::kF16) return ToFloat(ToF16(f));
  if (dtype == DType::kBF16) return ToFloat(ToBF16(f));
  return f;
}

int NearestNf4(float unit) {
  int code = 0;
  for (int k = 1; k < 16; ++k) code += unit > 0.5f * (kNf4Levels[k - 1] + kNf4Levels[k]);
  return code;
}

// Copies runs of `from_width` values into rows of `to_width` at `at`.
template <class T>
void Paste(const std::vector<T>& from, int64_t rows, int64_t at, int64_t to_width,
           std::vector<T>* to) {
  if (from.empty() || rows == 0) return;
  const int64_t from_width = static_cast<int64_t>(from.size()) / rows;
  for (int64_t r = 0; r < rows; ++r) {
    std::copy_n(from.begin() + r * from_width, from_width, to->begin() + r * to_width + at);
  }
}

}  // namespace

absl::StatusOr<BlockRounder> BlockRounder::Create(const Encoding& encoding, int64_t rows,
                                                  int64_t cols) {
  RK_RETURN_IF_ERROR(CheckCanEncode(encoding, cols));
  BlockRounder rounder(encoding, rows, cols);
  if (!encoding.IsFloat()) ResizeBlockRows(encoding, rows, cols, &rounder.rows_);
  return rounder;
}

BlockRounder BlockRounder::Resume(const Encoding& encoding, BlockRowsBuffer rows) {
  RK_CHECK(!encoding.IsFloat());
  BlockRounder rounder(encoding, rows.rows, rows.cols);
  rounder.rows_ = std::move(rows);
  return rounder;
}

int64_t BlockRounder::width() const {
  return encoding_.kind == EncodingKind::kE8P ? kE8PColumns : 1;
}

int64_t BlockRounder::span() const {
  if (encoding_.IsFloat()) return cols_;
  if (encoding_.kind != EncodingKind::kE8P && encoding_.HasTwoLevelScales()) {
    return kSuperBlockColumns;
  }
  return encoding_.GroupColumns(cols_);
}

absl::Status BlockRounder::FitSpan(int64_t begin, const Matrix64& wanted) {
  RK_CHECK(wanted.rows == num_rows_ && begin % span() == 0);
  RK_RETURN_IF_ERROR(CheckFinite(wanted));
  if (encoding_.IsFloat()) return absl::OkStatus();
  if (encoding_.kind == EncodingKind::kE8P) {
    const auto count = static_cast<int64_t>(wanted.values.size());
    rows_.scales[0] = static_cast<float>(E8PScale(SquaredNorm(wanted), count));
    return absl::OkStatus();
  }
  const std::vector<float> values(wanted.values.begin(), wanted.values.end());
  BlockRowsBuffer fitted;
  RK_RETURN_IF_ERROR(EncodeRows(values.data(), wanted.rows, wanted.cols, encoding_, &fitted));
  const BlockRows view = rows_.view();
  const int64_t group = begin / encoding_.GroupColumns(cols_), super = begin / kSuperBlockColumns;
  const bool two_level_offsets = encoding_.offset == OffsetKind::kTwoLevel;
  const bool two_level = encoding_.HasTwoLevelScales();
  Paste(fitted.scales, num_rows_, two_level ? super : group,
        two_level ? view.supers() : view.groups(), &rows_.scales);
  Paste(fitted.scale_codes, num_rows_, group, view.groups(), &rows_.scale_codes);
  Paste(fitted.offsets, num_rows_, two_level_offsets ? super : group,
        two_level_offsets ? view.supers() : view.groups(), &rows_.offsets);
  Paste(fitted.offset_codes, num_rows_, group, view.groups(), &rows_.offset_codes);
  return absl::OkStatus();
}

void BlockRounder::RoundE8P(int64_t row, int64_t col, const double* wanted, double* rounded) {
  const float scale = rows_.scales[0];
  float values[kE8PColumns];
  for (int i = 0; i < kE8PColumns; ++i) {
    values[i] = scale == 0 ? 0.0f : static_cast<float>(wanted[i]) / scale;
  }
  const uint16_t codeword = NearestE8P(values);
  uint8_t* codes = rows_.codes.data() + row * (cols_ / 4) + col / 4;
  codes[0] = static_cast<uint8_t>(codeword & 0xff);
  codes[1] = static_cast<uint8_t>(codeword >> 8);
  int8_t quarters[kE8PColumns];
  DecodeE8P(codeword, quarters);
  for (int i = 0; i < kE8PColumns; ++i) {
    rounded[i] = scale * (static_cast<float>(quarters[i]) * 0.25f);
  }
}

double BlockRounder::RoundOne(int64_t row, int64_t col, double wanted) {
  const BlockRows view = rows_.view();
  const int64_t group = row * view.groups() + col / encoding_.GroupColumns(cols_);
  const int64_t super = row * view.supers() + col / kSuperBlockColumns;
  const float scale = encoding_.HasTwoLevelScales() ? view.scales[super] * view.scale_codes[group]
                                                    : view.scales[group];
  float offset = 0;
  if (encoding_.HasOffsets()) {
    offset = encoding_.offset == OffsetKind::kTwoLevel
                 ? view.offsets[super] * view.offset_codes[group]
                 : view.offsets[group];
  }
  const auto unit = static_cast<float>(scale == 0 ? 0.0 : (wanted - offset) / scale);
  uint8_t* code = rows_.codes.data() + row * cols_ + col;
  if (encoding_.kind == EncodingKind::kNf4) {
    *code = static_cast<uint8_t>(NearestNf4(unit));
    return scale * kNf4Levels[*code];
  }
  const int zero = encoding_.ZeroCode(), greatest = (1 << encoding_.bits) - 1;
  const int level = static_cast<int>(std::nearbyint(
      std::clamp(unit, static_cast<float>(-zero), static_cast<float>(greatest - zero))));
  *code = static_cast<uint8_t>(level + zero);
  return scale * static_cast<float>(level) + offset;
}

void BlockRounder::Round(int64_t row, int64_t col, const double* wanted, double* rounded) {
  if (encoding_.IsFloat()) {
    *rounded = RoundFloat(encoding_.dtype, *wanted);
  } else if (encoding_.kind == EncodingKind::kE8P) {
    RoundE8P(row, col, wanted, rounded);
  } else {
    *rounded = RoundOne(row, col, *wanted);
  }
}

Matrix64 Decoded(const BlockRowsBuffer& rows) {
  Matrix64 values(rows.rows, rows.cols);
  std::vector<float> row(static_cast<size_t>(rows.cols));
  for (int64_t i = 0; i < rows.rows; ++i) {
    DecodeBlockRow(rows.view(), i, row.data());
    std::copy(row.begin(), row.end(), values.Row(i));
  }
  return values;
}

}  // namespace rankine
