#include "tools/synth/random_tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>

namespace rankine {
namespace {

using Fill = RandomTensor::Fill;

std::string All(const RandomTensor& tensor) {
  std::string bytes(static_cast<size_t>(BytesOf(tensor.spec)), '\0');
  FillRandom(tensor, 0, BytesOf(tensor.spec), bytes.data());
  return bytes;
}

float At(const std::string& bytes, DType dtype, int64_t index) {
  const char* at = bytes.data() + index * static_cast<int64_t>(SizeOf(dtype));
  uint16_t half;
  std::memcpy(&half, at, 2);
  if (dtype == DType::kBF16) return ToFloat(BF16{half});
  if (dtype == DType::kF16) return ToFloat(F16{half});
  float value;
  std::memcpy(&value, at, 4);
  return value;
}

TEST(FillRandom, AnyPartOfATensorIsThatOfTheWhole) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kU8}) {
    const RandomTensor tensor{.spec = {"t", dtype, {31, 999}},
                              .fill = dtype == DType::kU8 ? Fill::kBits : Fill::kUniform,
                              .row_bits = dtype == DType::kU8 ? 999 * 8 - 3 : 0,
                              .key = RandomKey(7, "t")};
    const std::string all = All(tensor);
    for (const int64_t begin : {8, 1000, 4096, 7992, 8000, 16392}) {
      const int64_t bytes = std::min<int64_t>(9000, BytesOf(tensor.spec) - begin);
      std::string part(static_cast<size_t>(bytes), '\0');
      FillRandom(tensor, begin, bytes, part.data());
      EXPECT_EQ(part, all.substr(static_cast<size_t>(begin), static_cast<size_t>(bytes)))
          << Name(dtype) << " from " << begin;
    }
  }
}

TEST(FillRandom, UniformHasItsBoundsItsMeanAndItsVariance) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const RandomTensor tensor{.spec = {"t", dtype, {1 << 16}}, .amplitude = 0.5f, .key = 3};
    const std::string bytes = All(tensor);
    double sum = 0, squares = 0;
    for (int64_t k = 0; k < 1 << 16; ++k) {
      const double v = At(bytes, dtype, k);
      ASSERT_LE(std::abs(v), 0.5);
      sum += v;
      squares += v * v;
    }
    const double n = 1 << 16, deviation = 0.5 / std::sqrt(3.0);
    // Five standard errors: of the mean sigma / sqrt(n); of the mean square sigma^2 sqrt(0.8 / n).
    EXPECT_NEAR(sum / n, 0, 5 * deviation / std::sqrt(n)) << Name(dtype);
    EXPECT_NEAR(squares / n, deviation * deviation,
                5 * deviation * deviation * std::sqrt(0.8 / n) + 1e-4)
        << Name(dtype);
  }
}

TEST(FillRandom, ScalesHaveBothSignsAndNoneIsSmall) {
  const RandomTensor tensor{
      .spec = {"t", DType::kF32, {4096}}, .fill = Fill::kScales, .amplitude = 2, .key = 5};
  const std::string bytes = All(tensor);
  int negative = 0;
  for (int64_t k = 0; k < 4096; ++k) {
    const float v = At(bytes, DType::kF32, k);
    EXPECT_GE(std::abs(v), 1.5f);
    EXPECT_LE(std::abs(v), 2.5f);
    negative += v < 0;
  }
  EXPECT_NEAR(negative, 2048, 5 * 32);  // five standard deviations
}

TEST(FillRandom, BitsOutsideARowAreZero) {
  // 3 codes of 3 bits: 9 bits in 2 bytes.
  const RandomTensor tensor{
      .spec = {"t", DType::kU8, {500, 2}}, .fill = Fill::kBits, .row_bits = 9, .key = 1};
  const std::string bytes = All(tensor);
  int ones = 0;
  for (size_t row = 0; row < 500; ++row) {
    EXPECT_EQ(bytes[2 * row + 1] & ~1, 0);
    ones += bytes[2 * row + 1];
  }
  EXPECT_NEAR(ones, 250, 5 * 11.2);
}

TEST(FillRandom, FallingFallsAndOnesAreOne) {
  const std::string falling =
      All({.spec = {"s", DType::kF32, {64}}, .fill = Fill::kFalling, .amplitude = 1});
  EXPECT_EQ(At(falling, DType::kF32, 0), 1.5f);
  for (int64_t k = 1; k < 64; ++k) {
    EXPECT_LT(At(falling, DType::kF32, k), At(falling, DType::kF32, k - 1));
    EXPECT_GT(At(falling, DType::kF32, k), 0.5f);
  }
  const std::string ones = All({.spec = {"s", DType::kF32, {64}}, .fill = Fill::kOnes});
  for (int64_t k = 0; k < 64; ++k) EXPECT_EQ(At(ones, DType::kF32, k), 1.0f);
}

TEST(RandomKey, DependsOnSeedAndName) {
  EXPECT_EQ(RandomKey(1, "a"), RandomKey(1, "a"));
  EXPECT_NE(RandomKey(1, "a"), RandomKey(2, "a"));
  EXPECT_NE(RandomKey(1, "a"), RandomKey(1, "b"));
}

}  // namespace
}  // namespace rankine
