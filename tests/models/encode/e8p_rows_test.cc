// EncodeRows into E8P: the one scale, nearest codewords, the distortion of normal weights.
#include "models/encode/e8p_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "kernels/base/e8p.h"
#include "models/encode/encoding_name.h"
#include "models/encode/quantise.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;

constexpr Encoding kE8P{.kind = EncodingKind::kE8P};

std::vector<float> Normal(int64_t count, float deviation, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = normal(random);
  return values;
}

double MeanSquare(const std::vector<float>& values) {
  double sum = 0;
  for (const float v : values) sum += static_cast<double>(v) * v;
  return sum / static_cast<double>(values.size());
}

std::vector<float> Decoded(const BlockRowsBuffer& rows) {
  std::vector<float> values(static_cast<size_t>(rows.rows * rows.cols));
  for (int64_t r = 0; r < rows.rows; ++r) {
    DecodeBlockRow(rows.view(), r, values.data() + r * rows.cols);
  }
  return values;
}

double MeanSquaredError(const std::vector<float>& values, const BlockRowsBuffer& rows) {
  std::vector<float> errors = Decoded(rows);
  for (size_t i = 0; i < values.size(); ++i) errors[i] -= values[i];
  return MeanSquare(errors);
}

BlockRowsBuffer MustEncode(const std::vector<float>& values, int64_t cols) {
  BlockRowsBuffer out;
  const absl::Status status =
      EncodeRows(values.data(), static_cast<int64_t>(values.size()) / cols, cols, kE8P, &out);
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

TEST(E8PRows, OneScaleAndTheNearestCodewords) {
  for (const float deviation : {1e-6f, 0.05f, 30.0f}) {
    const std::vector<float> values = Normal(9 * 40, deviation, 1);
    const BlockRowsBuffer rows = MustEncode(values, 40);
    ASSERT_EQ(rows.scales.size(), 1u);
    ASSERT_EQ(rows.codes.size(), 9u * 40 / 4);
    const float scale = rows.scales[0];
    EXPECT_FLOAT_EQ(scale, static_cast<float>(kE8PScaleOverRms * std::sqrt(MeanSquare(values))));
    for (size_t word = 0; word < rows.codes.size() / 2; ++word) {
      float scaled[kE8PColumns];
      for (int i = 0; i < kE8PColumns; ++i) scaled[i] = values[word * kE8PColumns + i] / scale;
      ASSERT_EQ(rows.codes[2 * word] | rows.codes[2 * word + 1] << 8, NearestE8P(scaled)) << word;
    }
  }
}

// Of 32768 codewords of normal weights. The squared error of a codeword over 8 has a standard
// deviation of 0.06 of the variance, so that of the mean is 0.00033; the bound is five of them.
TEST(E8PRows, NormalWeightsLoseWhatIsKnown) {
  const std::vector<float> values = Normal(256 * 1024, 0.02f, 2);
  const BlockRowsBuffer rows = MustEncode(values, 1024);
  const double error = MeanSquaredError(values, rows) / MeanSquare(values);
  EXPECT_NEAR(error, 0.0914, 0.0017);
  // What RowEncoder reports is what decoding shows.
  RowEncoder encoder(kE8P);
  BlockRowsBuffer again = rows;
  for (int64_t r = 0; r < 256; ++r) {
    ASSERT_TRUE(encoder.Encode(values.data() + r * 1024, r, r, &again).ok());
  }
  EXPECT_EQ(again.codes, rows.codes);
  EXPECT_NEAR(encoder.TakeError().relative(), std::sqrt(error), 1e-6);
  // No scale near by is better.
  for (const float factor : {0.96f, 1.04f}) {
    again.scales[0] = rows.scales[0] * factor;
    for (int64_t r = 0; r < 256; ++r) {
      ASSERT_TRUE(encoder.Encode(values.data() + r * 1024, r, r, &again).ok());
    }
    EXPECT_GT(std::pow(encoder.TakeError().relative(), 2), error + 0.0002) << factor;
  }
}

TEST(E8PRows, ZerosStayZero) {
  const std::vector<float> zeros(48);
  const BlockRowsBuffer rows = MustEncode(zeros, 24);
  EXPECT_EQ(rows.scales[0], 0.0f);
  EXPECT_EQ(Decoded(rows), zeros);
  // A zero row among others takes small values, not those of the rim.
  std::vector<float> values = Normal(48, 1, 3);
  std::fill(values.begin(), values.begin() + 24, 0.0f);
  const std::vector<float> decoded = Decoded(MustEncode(values, 24));
  for (int i = 0; i < 24; ++i) EXPECT_LT(std::abs(decoded[i]), 0.8f);
}

TEST(E8PRows, BadWidthsAndWeightsAreErrors) {
  BlockRowsBuffer out;
  std::vector<float> values = Normal(4 * 96, 1, 4);
  for (const int64_t cols : {12, 4, 1, 7}) {
    const absl::Status status = EncodeRows(values.data(), 2, cols, kE8P, &out);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("rows of " + std::to_string(cols) + " weights are not whole e8p"));
  }
  for (const float bad : {std::numeric_limits<float>::infinity(), std::nanf(""), 3e38f}) {
    values[2 * 96 + 40] = bad;
    const absl::Status status = EncodeRows(values.data(), 4, 96, kE8P, &out);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("at row 2, column 40"));
  }
}

}  // namespace
}  // namespace rankine
