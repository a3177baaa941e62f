// E8P: eight weights become the nearest codeword under one scale for the whole matrix, so a matrix
// is read twice, first for the scale.
#pragma once

#include <cstdint>

namespace rankine {

// Scale over root mean square: minimises E|x - s E8P(x / s)|^2 for a standard normal source
// (e8p_rows_test.cc measures it beside its neighbours).
inline constexpr double kE8PScaleOverRms = 0.965;

// Of `count` weights whose squares sum to `squared_weights`; 0 for weights that are all zero.
float E8PScale(double squared_weights, int64_t count);

// One row of weights as little-endian codewords [cols / 4]; returns the sum of squared errors.
// `cols` is a multiple of 8.
double EncodeE8PRow(const float* weights, int64_t cols, float scale, uint8_t* codes);

}  // namespace rankine
