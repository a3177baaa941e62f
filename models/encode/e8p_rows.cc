#include "models/encode/e8p_rows.h"

#include <cmath>

#include "kernels/base/check.h"
#include "kernels/base/e8p.h"

namespace rankine {

float E8PScale(double squared_weights, int64_t count) {
  if (count == 0) return 0.0f;
  const double rms = std::sqrt(squared_weights / static_cast<double>(count));
  return static_cast<float>(kE8PScaleOverRms * rms);
}

double EncodeE8PRow(const float* weights, int64_t cols, float scale, uint8_t* codes) {
  RK_CHECK(cols % kE8PColumns == 0);
  double squared_error = 0;
  for (int64_t col = 0; col < cols; col += kE8PColumns, codes += 2) {
    float values[kE8PColumns];
    for (int i = 0; i < kE8PColumns; ++i) {
      values[i] = scale == 0 ? 0.0f : weights[col + i] / scale;
    }
    const uint16_t codeword = NearestE8P(values);
    codes[0] = static_cast<uint8_t>(codeword & 0xff);
    codes[1] = static_cast<uint8_t>(codeword >> 8);
    int8_t quarters[kE8PColumns];
    DecodeE8P(codeword, quarters);
    for (int i = 0; i < kE8PColumns; ++i) {
      // As DecodeBlockRow rounds it.
      const float decoded = scale * (static_cast<float>(quarters[i]) * 0.25f);
      const double error = static_cast<double>(weights[col + i]) - decoded;
      squared_error += error * error;
    }
  }
  return squared_error;
}

}  // namespace rankine
