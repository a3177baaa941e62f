#include "models/encode/quantise.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/dtype.h"
#include "kernels/base/e8p.h"
#include "models/encode/block_storage.h"
#include "models/encode/e8p_rows.h"

namespace rankine {
namespace {

// Weights beyond this would need scales that readers refuse.
constexpr float kMaxWeight = 1e32f;
constexpr float kGreatestCode = 63;  // of two-level scales and offsets

absl::Status CheckWeights(const float* weights, int64_t cols, int64_t row_name) {
  bool good = true;
  for (int64_t c = 0; c < cols; ++c) good &= std::abs(weights[c]) <= kMaxWeight;
  if (good) return absl::OkStatus();
  for (int64_t c = 0; c < cols; ++c) {
    if (std::abs(weights[c]) <= kMaxWeight) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("the value ", weights[c], " at row ", row_name, ", column ", c,
                     std::isfinite(weights[c]) ? " is too large to be encoded" : " is not finite"));
  }
  return absl::OkStatus();
}

absl::Status TooLarge(const char* what, float value, int64_t group) {
  return absl::InvalidArgumentError(absl::StrCat("the ", what, " of group ", group, ", ", value,
                                                 ", does not fit in f16; use f32 scales (:f32)"));
}

// As f16, but a number that is not zero stays so. Infinite when it does not fit.
float RoundHalf(float v) {
  const float half = ToFloat(ToF16(v));
  return half == 0 && v != 0 ? std::copysign(kSmallestF16, v) : half;
}

float ToCode(float value, float super, float low, float high) {
  return super == 0 ? 0.0f : std::nearbyint(std::clamp(value / super, low, high));
}

}  // namespace

absl::StatusOr<double> SquaredWeights(const float* weights, int64_t cols, int64_t row_name) {
  if (auto status = CheckWeights(weights, cols, row_name); !status.ok()) return status;
  double sum = 0;
  for (int64_t c = 0; c < cols; ++c) sum += static_cast<double>(weights[c]) * weights[c];
  return sum;
}

absl::Status CheckCanEncode(const Encoding& encoding, int64_t cols) {
  if (encoding.kind != EncodingKind::kE8P || cols % kE8PColumns == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("rows of ", cols, " weights are not whole e8p codewords of ", kE8PColumns,
                   " weights; choose an affine encoding or nf4"));
}

RowEncoder::RowEncoder(const Encoding& encoding) : encoding_(encoding) {
  RK_CHECK(!encoding.IsFloat());
  if (encoding.kind == EncodingKind::kE8P) return;
  const int64_t groups =
      encoding.HasTwoLevelScales() ? kSuperBlockColumns / encoding.GroupColumns(0) : 1;
  fitters_.assign(static_cast<size_t>(groups), GroupFitter(encoding));
  fits_.resize(fitters_.size());
}

absl::Status RowEncoder::Encode(const float* weights, int64_t row, int64_t row_name,
                                BlockRowsBuffer* out) {
  const absl::StatusOr<double> squared = SquaredWeights(weights, out->cols, row_name);
  if (!squared.ok()) return squared.status();
  error_.squared_weights += *squared;
  if (encoding_.kind == EncodingKind::kE8P) {
    uint8_t* codes = out->codes.data() + row * out->view().code_bytes_per_row();
    error_.squared_error += EncodeE8PRow(weights, out->cols, out->scales[0], codes);
    return absl::OkStatus();
  }
  absl::Status status;
  const int64_t span =
      encoding_.HasTwoLevelScales() ? kSuperBlockColumns : encoding_.GroupColumns(out->cols);
  for (int64_t begin = 0; status.ok() && begin < out->cols; begin += span) {
    status = EncodeSpan(weights, begin, std::min(out->cols, begin + span), row, out);
    if (!status.ok()) {
      status = absl::Status(status.code(), absl::StrCat("row ", row_name, ": ", status.message()));
    }
  }
  return status;
}

absl::Status RowEncoder::EncodeSpan(const float* weights, int64_t begin, int64_t end, int64_t row,
                                    BlockRowsBuffer* out) {
  const int64_t width = encoding_.GroupColumns(out->cols);
  const int64_t groups_per_row = out->view().groups();
  const int64_t first_group = row * groups_per_row + begin / width;
  const int64_t count = CeilDiv(end - begin, width);
  for (int64_t g = 0; g < count; ++g) {
    const int64_t at = begin + g * width;
    fitters_[g].Load(weights + at, std::min(width, end - at));
    fits_[g] = fitters_[g].Fit();
    const int64_t group = at / width;
    if (!std::isfinite(fits_[g].scale)) return TooLarge("scale", fits_[g].scale, group);
    if (!std::isfinite(fits_[g].offset)) return TooLarge("offset", fits_[g].offset, group);
  }
  if (encoding_.HasTwoLevelScales()) {
    const int64_t super = row * out->view().supers() + begin / kSuperBlockColumns;
    const std::span<GroupFit> fits(fits_.data(), static_cast<size_t>(count));
    if (auto status = RoundToSuper(fits, super, first_group, out); !status.ok()) return status;
  } else {
    out->scales[first_group] = fits_[0].scale;
  }
  for (int64_t g = 0; g < count; ++g) {
    if (encoding_.HasOffsets() && encoding_.offset == OffsetKind::kPerGroup) {
      out->offsets[first_group + g] = fits_[g].offset;
    }
    error_.squared_error +=
        fitters_[g].Encode(fits_[g], out->codes.data() + row * out->cols + begin + g * width);
  }
  return absl::OkStatus();
}

// Gives every fit of the super-block the scale (and offset) that two levels can express.
absl::Status RowEncoder::RoundToSuper(std::span<GroupFit> fits, int64_t super, int64_t first_group,
                                      BlockRowsBuffer* out) const {
  float greatest = 0, lowest_offset = 0;
  for (const GroupFit& fit : fits) {
    if (std::abs(fit.scale) > std::abs(greatest)) greatest = fit.scale;
    lowest_offset = std::min(lowest_offset, fit.offset);
  }
  const bool is_signed = encoding_.scale == ScaleKind::kTwoLevelI8;
  const float low = is_signed ? -128.0f : 0.0f, high = is_signed ? 127.0f : kGreatestCode;
  const float super_scale = RoundHalf(greatest / (is_signed ? low : high));
  if (!std::isfinite(super_scale)) return TooLarge("super-block's scale", super_scale, first_group);
  out->scales[super] = super_scale;
  const bool offsets = encoding_.HasOffsets() && encoding_.offset == OffsetKind::kTwoLevel;
  const float super_offset = offsets ? RoundHalf(lowest_offset / kGreatestCode) : 0.0f;
  if (!std::isfinite(super_offset))
    return TooLarge("super-block's offset", super_offset, first_group);
  if (offsets) out->offsets[super] = super_offset;
  for (size_t g = 0; g < fits.size(); ++g) {
    const float scale_code = ToCode(fits[g].scale, super_scale, low, high);
    out->scale_codes[first_group + g] = static_cast<int8_t>(scale_code);
    fits[g].scale = super_scale * scale_code;
    if (!offsets) continue;
    const float offset_code = ToCode(fits[g].offset, super_offset, 0, kGreatestCode);
    out->offset_codes[first_group + g] = static_cast<int8_t>(offset_code);
    fits[g].offset = super_offset * offset_code;
  }
  return absl::OkStatus();
}

absl::Status EncodeRows(const float* rows, int64_t num_rows, int64_t cols, const Encoding& encoding,
                        BlockRowsBuffer* out) {
  if (auto status = CheckCanEncode(encoding, cols); !status.ok()) return status;
  ResizeBlockRows(encoding, num_rows, cols, out);
  if (encoding.kind == EncodingKind::kE8P) {
    double squared_weights = 0;
    for (int64_t r = 0; r < num_rows; ++r) {
      const absl::StatusOr<double> squared = SquaredWeights(rows + r * cols, cols, r);
      if (!squared.ok()) return squared.status();
      squared_weights += *squared;
    }
    out->scales[0] = E8PScale(squared_weights, num_rows * cols);
  }
  RowEncoder encoder(encoding);
  for (int64_t r = 0; r < num_rows; ++r) {
    if (auto status = encoder.Encode(rows + r * cols, r, r, out); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace rankine
