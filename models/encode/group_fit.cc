#include "models/encode/group_fit.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/api/block_rows.h"
#include "kernels/base/dtype.h"
#include "kernels/base/math.h"

namespace rankine {
namespace {

// Eight floats at a time, in the compiler's own vector type: sums are kept in lanes, which a plain
// loop over floats may not do.
constexpr int64_t kLanes = 8;
using Vector __attribute__((vector_size(kLanes * sizeof(float)))) = float;

Vector Load8(const float* p) {
  Vector v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

float Total(Vector v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }

// To the nearest whole number, even in the middle, for magnitudes below 2^22.
Vector RoundHalfEven(Vector v) {
  const Vector magic = Vector{} + 12582912.0f;  // 1.5 x 2^23: its last bit is worth 1
  return (v + magic) - magic;
}

// The nearest level to each unit value v = x / scale.
struct Integers {
  float low, high;
  Vector operator()(Vector v) const {
    v = v < low ? Vector{} + low : v;
    return RoundHalfEven(v > high ? Vector{} + high : v);
  }
};

struct Nf4Levels {
  Vector operator()(Vector v) const {
    Vector level = Vector{} + kNf4Levels[0];
    for (int i = 1; i < 16; ++i) {
      const float middle = 0.5f * (kNf4Levels[i - 1] + kNf4Levels[i]);
      level = v > middle ? Vector{} + kNf4Levels[i] : level;
    }
    return level;
  }
};

// Scales below this are stored as zero: their reciprocal would not be finite.
constexpr float kSmallestScale = 1e-37f;

float Reciprocal(float scale) { return scale == 0 ? 0.0f : 1.0f / scale; }

// The greatest f16 that is not above v.
float HalfDown(float v) {
  const F16 nearest = ToF16(v);
  if (ToFloat(nearest) <= v) return ToFloat(nearest);
  if ((nearest.bits & 0x7fff) == 0) return -kSmallestF16;
  const bool negative = (nearest.bits & 0x8000) != 0;
  return ToFloat(F16{static_cast<uint16_t>(negative ? nearest.bits + 1 : nearest.bits - 1)});
}

// Calls f(x, levels, valid) for each vector of weights: the level of each and, for sums that must
// not count what is beyond n, 1 or 0.
template <class Nearest, class F>
void ForEachVector(const std::vector<float>& x, int64_t n, float offset, float scale,
                   const Nearest& nearest, F f) {
  const float reciprocal = Reciprocal(scale);
  static constexpr Vector kLane = {0, 1, 2, 3, 4, 5, 6, 7};
  for (int64_t i = 0; i < n; i += kLanes) {
    const Vector v = Load8(x.data() + i);
    const Vector lane = kLane + static_cast<float>(i);
    const Vector valid = lane < static_cast<float>(n) ? Vector{} + 1.0f : Vector{};
    f(v, nearest((v - offset) * reciprocal), valid);
  }
}

}  // namespace

GroupFitter::GroupFitter(const Encoding& encoding)
    : encoding_(encoding), has_offsets_(encoding.HasOffsets()) {
  if (encoding.kind == EncodingKind::kNf4) {
    low_ = -1;
    high_ = 1;
    trials_ = 4;
    step_ = 0.03f;
    return;
  }
  low_ = static_cast<float>(-encoding.ZeroCode());
  high_ = low_ + static_cast<float>((1 << encoding.bits) - 1);
  // With many codes the covering scale is near the best; with few it is far from it.
  trials_ = encoding.bits <= 4 ? 9 : encoding.bits <= 6 ? 4 : 1;
  step_ = 0.1f / std::max(-low_, 0.5f * high_);
}

// A scale that would be stored as zero becomes the smallest that is not.
float GroupFitter::RoundScale(float scale) const {
  if (encoding_.HasTwoLevelScales()) {
    if (encoding_.scale == ScaleKind::kTwoLevel) scale = std::max(scale, 0.0f);
    return std::abs(scale) < kSmallestScale ? 0.0f : scale;
  }
  if (encoding_.scale == ScaleKind::kF32) return std::abs(scale) < kSmallestScale ? 0.0f : scale;
  const float half = ToFloat(ToF16(scale));
  return half == 0 && scale != 0 ? std::copysign(kSmallestF16, scale) : half;
}

float GroupFitter::RoundOffset(float offset) const {
  if (encoding_.offset == OffsetKind::kTwoLevel) return std::min(offset, 0.0f);
  return encoding_.scale == ScaleKind::kF32 ? offset : ToFloat(ToF16(offset));
}

void GroupFitter::Load(const float* weights, int64_t n) {
  n_ = n;
  x_.assign(static_cast<size_t>(RoundUp(n, kLanes)), 0.0f);
  const auto [low, high] = std::minmax_element(weights, weights + n);
  min_ = *low;
  max_ = *high;
  if (encoding_.offset == OffsetKind::kTwoLevel) min_ = std::min(min_, 0.0f);
  // Differences from the smallest weight keep their bits where all weights lie far from zero.
  const float base = has_offsets_ ? min_ : 0.0f;
  for (int64_t i = 0; i < n; ++i) x_[i] = weights[i] - base;
  Vector sum{};
  for (size_t i = 0; i < x_.size(); i += kLanes) sum += Load8(x_.data() + i);
  sum_ = Total(sum);
}

GroupFitter::Sums GroupFitter::SumsOf(const GroupFit& fit) const {
  Vector q{}, qq{}, xq{};
  const auto add = [&](Vector x, Vector level, Vector valid) {
    level *= valid;
    q += level;
    qq += level * level;
    xq += x * level;
  };
  const float offset = has_offsets_ ? fit.offset - min_ : 0.0f;
  if (encoding_.kind == EncodingKind::kNf4) {
    ForEachVector(x_, n_, offset, fit.scale, Nf4Levels{}, add);
  } else {
    ForEachVector(x_, n_, offset, fit.scale, Integers{low_, high_}, add);
  }
  return {Total(q), Total(qq), Total(xq)};
}

float GroupFitter::Error(const GroupFit& fit) const {
  Vector error{};
  const float offset = has_offsets_ ? fit.offset - min_ : 0.0f;
  const auto add = [&](Vector x, Vector level, Vector valid) {
    const Vector difference = (x - offset - level * fit.scale) * valid;
    error += difference * difference;
  };
  if (encoding_.kind == EncodingKind::kNf4) {
    ForEachVector(x_, n_, offset, fit.scale, Nf4Levels{}, add);
  } else {
    ForEachVector(x_, n_, offset, fit.scale, Integers{low_, high_}, add);
  }
  return Total(error);
}

void GroupFitter::Try(const GroupFit& fit, GroupFit* best, float* best_error) const {
  if (!std::isfinite(fit.scale) || !std::isfinite(fit.offset)) return;
  const float error = Error(fit);
  if (!(error < *best_error)) return;
  *best_error = error;
  *best = fit;
}

float GroupFitter::Gain(const Sums& s) const {
  if (!has_offsets_) return s.qq > 0 ? s.xq * s.xq / s.qq : 0.0f;
  // Of both about their means; what the mean alone takes off is the same for all trials.
  const float n = static_cast<float>(n_);
  const float covariance = n * s.xq - sum_ * s.q, variance = n * s.qq - s.q * s.q;
  return variance > 0 ? covariance * covariance / variance : 0.0f;
}

// Rounded. An offset that is cut to zero leaves a scale without one.
GroupFit GroupFitter::BestFit(const Sums& s) const {
  const float n = static_cast<float>(n_);
  const float variance = n * s.qq - s.q * s.q;
  if (has_offsets_ && variance > 0) {
    const float offset = min_ + (sum_ * s.qq - s.q * s.xq) / variance;
    if (encoding_.offset != OffsetKind::kTwoLevel || offset < 0) {
      return {.scale = RoundScale((n * s.xq - sum_ * s.q) / variance),
              .offset = RoundOffset(offset)};
    }
  }
  const float base = has_offsets_ ? min_ : 0.0f;  // what x_ lacks
  return {.scale = s.qq > 0 ? RoundScale((s.xq + base * s.q) / s.qq) : 0.0f};
}

GroupFit GroupFitter::Search(const GroupFit& covering) const {
  GroupFit best = covering;
  best.scale = RoundScale(covering.scale);
  if (best.scale == 0 || !std::isfinite(best.scale) || !std::isfinite(best.offset)) return best;
  float best_gain = -1;
  Sums best_sums;
  for (int k = -trials_; k <= trials_; ++k) {
    const float scale = covering.scale / (1.0f + static_cast<float>(k) * step_);
    const Sums sums = SumsOf({.scale = scale, .offset = covering.offset});
    if (const float gain = Gain(sums); gain > best_gain) {
      best_gain = gain;
      best_sums = sums;
    }
  }
  float best_error = Error(best);
  const GroupFit first = BestFit(best_sums);
  Try(first, &best, &best_error);
  if (first.scale != 0 && std::isfinite(first.scale) && std::isfinite(first.offset)) {
    Try(BestFit(SumsOf(first)), &best, &best_error);
  }
  return best;
}

// The code of -2^(b-1) has no counterpart: the scale's sign is such that the weight of greatest
// magnitude takes it, where scales may be negative.
GroupFit GroupFitter::FitScale() const {
  const float greatest = -min_ > max_ ? min_ : max_;
  if (encoding_.kind == EncodingKind::kNf4) return Search({.scale = std::abs(greatest)});
  if (encoding_.scale == ScaleKind::kTwoLevel) {
    return Search({.scale = std::max(max_ / high_, min_ / low_)});
  }
  const GroupFit fit = Search({.scale = greatest / low_});
  if (encoding_.bits > 3 || !std::isfinite(fit.scale)) return fit;
  const GroupFit other = Search({.scale = -greatest / low_});
  return Error(other) < Error(fit) ? other : fit;
}

GroupFit GroupFitter::FitScaleAndOffset() const {
  const bool half_offset =
      encoding_.offset == OffsetKind::kPerGroup && encoding_.scale != ScaleKind::kF32;
  const float offset = half_offset ? HalfDown(min_) : min_;
  return Search({.scale = (max_ - offset) / high_, .offset = offset});
}

GroupFit GroupFitter::Fit() const { return has_offsets_ ? FitScaleAndOffset() : FitScale(); }

double GroupFitter::Encode(const GroupFit& fit, uint8_t* codes) const {
  const float offset = has_offsets_ ? fit.offset - min_ : 0.0f;
  const int zero = encoding_.ZeroCode();
  double error = 0;
  for (int64_t i = 0; i < n_; ++i) {
    // Divided, not multiplied by a reciprocal: the nearest code, also near the middle of two.
    const float unit = fit.scale == 0 ? 0.0f : (x_[i] - offset) / fit.scale;
    float level;
    if (encoding_.kind == EncodingKind::kNf4) {
      int code = 0;
      for (int k = 1; k < 16; ++k) code += unit > 0.5f * (kNf4Levels[k - 1] + kNf4Levels[k]);
      codes[i] = static_cast<uint8_t>(code);
      level = kNf4Levels[code];
    } else {
      level = std::nearbyint(std::clamp(unit, low_, high_));
      codes[i] = static_cast<uint8_t>(static_cast<int>(level) + zero);
    }
    const double difference = x_[i] - offset - level * fit.scale;
    error += difference * difference;
  }
  return error;
}

}  // namespace rankine
