#include "tools/eval/next_token.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace rankine {
namespace {

std::vector<float> RandomLogits(int64_t vocab, float spread, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(3, spread);
  std::vector<float> logits(vocab);
  for (float& value : logits) value = normal(random);
  return logits;
}

// Plain loops in long double.
std::vector<long double> LogProbabilities(const std::vector<float>& logits) {
  const long double max = *std::max_element(logits.begin(), logits.end());
  long double sum = 0;
  for (const float value : logits) sum += std::exp(value - max);
  std::vector<long double> result;
  for (const float value : logits) result.push_back(value - max - std::log(sum));
  return result;
}

TEST(NextToken, AgreesWithPlainLoops) {
  for (const int64_t vocab : {1, 2, 511, 512, 513, 49152}) {
    for (const float spread : {0.1f, 8.0f}) {
      const auto p = RandomLogits(vocab, spread, 1), q = RandomLogits(vocab, spread, 2);
      const auto log_p = LogProbabilities(p), log_q = LogProbabilities(q);
      long double kl = 0;
      for (int64_t i = 0; i < vocab; ++i) kl += std::exp(log_p[i]) * (log_p[i] - log_q[i]);
      const Divergence divergence = KlDivergence(p.data(), q.data(), vocab);
      EXPECT_NEAR(divergence.kl, static_cast<double>(kl), 1e-12 * (1 + static_cast<double>(kl)));
      EXPECT_EQ(divergence.p_norm, LogSumExp(p.data(), vocab));
      EXPECT_EQ(divergence.q_norm, LogSumExp(q.data(), vocab));
      const auto last = static_cast<int32_t>(vocab - 1);
      EXPECT_NEAR(NegativeLogLikelihood(p.data(), vocab, last), -static_cast<double>(log_p[last]),
                  1e-12);
    }
  }
}

TEST(NextToken, NothingDivergesFromItself) {
  const auto p = RandomLogits(1000, 5, 3);
  EXPECT_EQ(KlDivergence(p.data(), p.data(), 1000).kl, 0);
}

// Wherever it stands, and though a vectorised exponential may take it for its bound.
TEST(NextToken, WhatIsNotFiniteShows) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::nanf(""), kInfinity, -kInfinity}) {
    for (const int at : {0, 5, 599}) {
      auto p = RandomLogits(600, 1, 4);
      const auto q = p;
      p[at] = bad;
      EXPECT_TRUE(std::isnan(LogSumExp(p.data(), 600))) << bad << " at " << at;
      EXPECT_TRUE(std::isnan(KlDivergence(p.data(), q.data(), 600).kl)) << bad << " at " << at;
      EXPECT_TRUE(std::isnan(KlDivergence(q.data(), p.data(), 600).q_norm)) << bad << " at " << at;
    }
  }
}

}  // namespace
}  // namespace rankine
