#include "models/rope.h"

#include <cmath>

#include "kernels/base/check.h"

namespace rankine {
namespace {

// Wavelengths below original / high_freq_factor stay, above original / low_freq_factor are divided
// by factor, and between them the two are blended linearly.
float Llama3Scaled(const RopeConfig& rope, float frequency) {
  const double wavelength = 2 * M_PI / frequency;
  const double low = static_cast<double>(rope.original_max_position) / rope.low_freq_factor;
  const double high = static_cast<double>(rope.original_max_position) / rope.high_freq_factor;
  const auto factor = static_cast<float>(rope.factor);
  if (wavelength > low) return frequency / factor;
  if (wavelength < high) return frequency;
  const auto smooth = static_cast<float>(
      (static_cast<double>(rope.original_max_position) / wavelength - rope.low_freq_factor) /
      (rope.high_freq_factor - rope.low_freq_factor));
  return (1 - smooth) * frequency / factor + smooth * frequency;
}

}  // namespace

std::vector<float> RopeInverseFrequencies(const RopeConfig& rope, int64_t head_dim) {
  std::vector<float> result(head_dim / 2);
  RK_CHECK(rope.frequency_divisors.empty() || rope.frequency_divisors.size() == result.size());
  for (size_t j = 0; j < result.size(); ++j) {
    const float exponent = static_cast<float>(2 * j) / static_cast<float>(head_dim);
    float f = 1.0f / std::pow(static_cast<float>(rope.theta), exponent);
    if (rope.type == RopeType::kLinear) f /= static_cast<float>(rope.factor);
    if (rope.type == RopeType::kLlama3) f = Llama3Scaled(rope, f);
    if (!rope.frequency_divisors.empty()) f /= rope.frequency_divisors[j];
    result[j] = f;
  }
  return result;
}

void RopeTables(const std::vector<float>& inverse_frequencies, const int32_t* positions,
                int64_t num_tokens, float* cos, float* sin) {
  const size_t half = inverse_frequencies.size();
  for (int64_t t = 0; t < num_tokens; ++t) {
    for (size_t j = 0; j < half; ++j) {
      const float angle = static_cast<float>(positions[t]) * inverse_frequencies[j];
      cos[t * half + j] = std::cos(angle);
      sin[t * half + j] = std::sin(angle);
    }
  }
}

}  // namespace rankine
