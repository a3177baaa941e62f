// The E8P codebook against its definition in the paper, and the nearest codeword against a search
// of all.
#include "kernels/base/e8p.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>
#include <vector>

namespace rankine {
namespace {

TEST(E8PTest, CodewordsAreDistinctPointsOfTheShiftedLattice) {
  std::set<std::vector<int>> seen;
  for (int codeword = 0; codeword < 1 << 16; ++codeword) {
    int8_t quarters[8];
    DecodeE8P(static_cast<uint16_t>(codeword), quarters);
    const int shift = codeword >> 15 ? 1 : -1;
    int sum = 0, norm = 0;
    for (int8_t q : quarters) {
      const int half = q - shift;  // in quarters: an odd number of halves
      ASSERT_EQ(((half % 4) + 4) % 4, 2);
      sum += half / 2;
      norm += (half / 2) * (half / 2);
    }
    ASSERT_EQ(sum % 4, 0) << "the sum of the vector is even";
    ASSERT_LE(norm, 4 * 12);
    seen.insert(std::vector<int>(quarters, quarters + 8));
  }
  EXPECT_EQ(seen.size(), 1u << 16);
}

TEST(E8PTest, HasAllMagnitudesUpToSquaredNormTen) {
  std::set<uint16_t> entries(E8PMagnitudes().begin(), E8PMagnitudes().end());
  EXPECT_EQ(entries.size(), 256u);
  int inside = 0;
  for (uint16_t pattern : entries) {
    double norm = 0;
    for (int i = 0; i < 8; ++i) {
      ASSERT_NE(pattern >> (2 * i) & 3, 3);
      norm += std::pow((pattern >> (2 * i) & 3) + 0.5, 2);
    }
    ASSERT_TRUE(norm <= 10 || norm == 12);
    inside += norm <= 10 ? 1 : 0;
  }
  EXPECT_EQ(inside, 227);
}

TEST(E8PTest, NearestIsNearest) {
  std::mt19937 rng(3);
  for (float size : {0.3f, 1.0f, 2.5f}) {
    std::normal_distribution<float> normal(0, size);
    for (int trial = 0; trial < 40; ++trial) {
      float values[8];
      for (float& v : values) v = normal(rng);
      auto distance = [&](uint16_t codeword) {
        int8_t quarters[8];
        DecodeE8P(codeword, quarters);
        double sum = 0;
        for (int i = 0; i < 8; ++i) sum += std::pow(values[i] - quarters[i] / 4.0, 2);
        return sum;
      };
      double best = 1e30;
      for (int codeword = 0; codeword < 1 << 16; ++codeword)
        best = std::min(best, distance(static_cast<uint16_t>(codeword)));
      EXPECT_NEAR(distance(NearestE8P(values)), best, 1e-4);
    }
  }
}

}  // namespace
}  // namespace rankine
