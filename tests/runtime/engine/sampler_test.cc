#include "runtime/engine/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/thread_pool.h"
#include "runtime/engine/philox.h"

namespace rankine {
namespace {

std::vector<float> RandomLogits(int64_t n, float spread, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(n);
  for (float& v : logits) v = normal(random);
  return logits;
}

int32_t SampleOne(std::vector<float> logits, const SamplingParams& params, int64_t index = 0) {
  const int64_t n = static_cast<int64_t>(logits.size());
  Sampler sampler(n);
  std::vector<int32_t> ids;
  sampler.Sample({.data = logits.data(), .rows = 1, .cols = n, .stride = n},
                 {{.params = params, .index = index}}, &ids, Stream{});
  return ids.at(0);
}

// The filters as their definitions read: everything sorted, everything in double. Probabilities of
// the tokens that are left.
std::map<int32_t, double> Reference(const std::vector<float>& logits, const SamplingParams& p) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  if (p.top_k > 0 && p.top_k < static_cast<int32_t>(order.size())) order.resize(p.top_k);
  auto softmax = [&] {
    std::vector<double> probabilities;
    double total = 0;
    for (int32_t id : order) {
      const double difference = double{logits[id]} - double{logits[order[0]]};
      probabilities.push_back(std::exp(difference / p.temperature));
      total += probabilities.back();
    }
    for (double& v : probabilities) v /= total;
    return probabilities;
  };
  std::vector<double> probabilities = softmax();
  double sum = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    sum += probabilities[i];
    if (p.top_p < 1 && sum >= p.top_p) order.resize(i + 1);
  }
  probabilities = softmax();
  const double least = p.min_p * probabilities[0];
  for (size_t i = order.size(); i-- > 0 && probabilities[i] < least;) order.resize(i);
  probabilities = softmax();
  std::map<int32_t, double> kept;
  for (size_t i = 0; i < order.size(); ++i) kept[order[i]] = probabilities[i];
  return kept;
}

struct ChiSquared {
  double statistic = 0;
  double bound = 0;  // exceeded by chance once in a million
};

// Pearson's test of drawn counts; tokens expected fewer than 5 times share a bin.
ChiSquared Compare(const std::map<int32_t, int64_t>& counts,
                   const std::map<int32_t, double>& probabilities, int64_t draws) {
  ChiSquared result;
  double rest_expected = 0, rest_seen = 0;
  int bins = 0;
  auto add = [&](double seen, double expected) {
    result.statistic += (seen - expected) * (seen - expected) / expected;
    ++bins;
  };
  for (const auto& [id, probability] : probabilities) {
    auto it = counts.find(id);
    const double seen = it == counts.end() ? 0 : it->second;
    if (probability * draws >= 5) {
      add(seen, probability * draws);
    } else {
      rest_expected += probability * draws;
      rest_seen += seen;
    }
  }
  if (rest_expected >= 5) add(rest_seen, rest_expected);
  // Wilson and Hilferty (1931), at the normal quantile of 1 - 1e-6.
  const double k = std::max(bins - 1, 1);
  const double z = 4.7534;
  result.bound = k * std::pow(1 - 2 / (9 * k) + z * std::sqrt(2 / (9 * k)), 3);
  return result;
}

std::map<int32_t, int64_t> Draw(std::vector<float> logits, const SamplingParams& params,
                                int64_t draws) {
  const int64_t n = static_cast<int64_t>(logits.size());
  Sampler sampler(n);
  std::vector<int32_t> ids;
  std::map<int32_t, int64_t> counts;
  for (int64_t i = 0; i < draws; ++i) {
    sampler.Sample({.data = logits.data(), .rows = 1, .cols = n, .stride = n},
                   {{.params = params, .index = i}}, &ids, Stream{});
    ++counts[ids[0]];
  }
  return counts;
}

const std::vector<SamplingParams>& AllKinds() {
  static const std::vector<SamplingParams> kinds = {
      {.temperature = 1},
      {.temperature = 0.3f},
      {.temperature = 5},
      {.temperature = 1, .top_k = 1},
      {.temperature = 1, .top_k = 10},
      {.temperature = 2, .top_k = 1000},
      {.temperature = 1, .top_p = 0.5f},
      {.temperature = 1, .top_p = 0.95f},
      {.temperature = 4, .top_p = 0.99f},
      {.temperature = 1, .top_p = 1e-6f},
      {.temperature = 1, .min_p = 0.05f},
      {.temperature = 1, .min_p = 1},
      {.temperature = 1.5f, .top_k = 40, .top_p = 0.8f},
      {.temperature = 1.5f, .top_k = 40, .top_p = 0.9f, .min_p = 0.1f},
      {.temperature = 2, .top_p = 0.9f, .min_p = 0.02f},
  };
  return kinds;
}

// Known answers of the Random123 library (kat_vectors).
TEST(PhiloxTest, KnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t ones = 0xffffffff;
  EXPECT_EQ(Philox4x32({ones, ones, ones, ones}, {ones, ones}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(PhiloxTest, UniformsAreInRangeAndDifferBySeedAndIndex) {
  std::map<double, int> seen;
  double sum = 0;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    for (uint64_t index = 0; index < 50; ++index) {
      const double u = RandomUniform(seed, index);
      ASSERT_GE(u, 0.0);
      ASSERT_LT(u, 1.0);
      ++seen[u];
      sum += u;
    }
  }
  EXPECT_EQ(seen.size(), 2500u);
  // The mean of 2500 uniforms has standard deviation sqrt(1/12/2500) = 0.0058.
  EXPECT_NEAR(sum / 2500, 0.5, 5 * 0.0058);
  EXPECT_NE(RandomUniform(1, 0), RandomUniform(uint64_t{1} << 32, 0));
  EXPECT_NE(RandomUniform(0, 1), RandomUniform(0, uint64_t{1} << 32));
}

TEST(SamplerTest, GreedyTakesTheLargestAtEverySize) {
  for (int64_t n = 1; n <= 200; ++n) {
    std::vector<float> logits = RandomLogits(n, 1, n);
    const auto largest = std::max_element(logits.begin(), logits.end()) - logits.begin();
    EXPECT_EQ(SampleOne(logits, {}), largest) << n;
  }
}

TEST(SamplerTest, OfEqualLogitsTheLowestIdWins) {
  for (int64_t first : {0, 3, 31, 32, 90}) {
    std::vector<float> logits(100, -1.0f);
    for (int64_t i = first; i < 100; i += 7) logits[i] = 2;
    EXPECT_EQ(SampleOne(logits, {}), first);
    EXPECT_EQ(SampleOne(logits, {.temperature = 1, .top_k = 1}), first);
    EXPECT_EQ(SampleOne(logits, {.temperature = 1, .top_p = 1e-9f}), first);
  }
  EXPECT_EQ(SampleOne(std::vector<float>(5000, 0.0f), {}), 0);
}

TEST(SamplerTest, DrawsOnlyWhatTheFiltersLeftAndAsOften) {
  constexpr int64_t kDraws = 4000;
  const std::vector<float> logits = RandomLogits(300, 2, 11);
  for (size_t i = 0; i < AllKinds().size(); ++i) {
    SamplingParams params = AllKinds()[i];
    params.seed = 1000 + i;
    const std::map<int32_t, double> expected = Reference(logits, params);
    const std::map<int32_t, int64_t> counts = Draw(logits, params, kDraws);
    for (const auto& [id, count] : counts) EXPECT_TRUE(expected.count(id)) << i << " drew " << id;
    const ChiSquared chi = Compare(counts, expected, kDraws);
    EXPECT_LT(chi.statistic, chi.bound) << "kind " << i;
  }
}

TEST(SamplerTest, TheTestOfFrequenciesCanFail) {
  const std::vector<float> logits = RandomLogits(300, 2, 11);
  const std::map<int32_t, int64_t> counts = Draw(logits, {.temperature = 1, .seed = 4}, 4000);
  const ChiSquared chi = Compare(counts, Reference(logits, {.temperature = 1.25f}), 4000);
  EXPECT_GT(chi.statistic, chi.bound);
}

// The nucleus of a flat distribution is far larger than the first guess.
TEST(SamplerTest, NucleusOfAFlatDistribution) {
  const std::vector<float> logits = RandomLogits(5000, 0.01f, 3);
  const SamplingParams params = {.temperature = 1, .top_p = 0.5f, .seed = 9};
  const std::map<int32_t, double> expected = Reference(logits, params);
  ASSERT_GT(expected.size(), 2000u);
  std::map<int32_t, int64_t> counts = Draw(logits, params, 2000);
  for (const auto& [id, count] : counts) ASSERT_TRUE(expected.count(id));
  EXPECT_GT(counts.size(), 1000u);
}

TEST(SamplerTest, ExtremeLogitsAndTemperaturesGiveAToken) {
  constexpr float kMax = std::numeric_limits<float>::max();
  const std::vector<float> logits = {-kMax, 0, kMax, 1, -1, kMax / 2};
  for (SamplingParams params : AllKinds()) {
    for (float temperature : {1e-45f, 1e-6f, 1.0f, 1000.0f}) {
      params.temperature = temperature;
      EXPECT_EQ(SampleOne(logits, params), 2) << temperature;
    }
  }
  EXPECT_EQ(SampleOne({3.0f}, {.temperature = 1, .top_k = 7, .top_p = 0.5f}), 0);
}

TEST(SamplerTest, NanAndInfinityAreSeenWhereverTheyStand) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), kInf, -kInf}) {
    for (int64_t n : {1, 31, 32, 33, 100}) {
      for (int64_t i = 0; i < n; ++i) {
        std::vector<float> logits = RandomLogits(n, 1, 1);
        logits[i] = bad;
        ASSERT_EQ(SampleOne(logits, {}), kInvalidLogits) << bad << " at " << i << " of " << n;
        ASSERT_EQ(SampleOne(logits, {.temperature = 1, .top_k = 3}), kInvalidLogits);
      }
    }
  }
}

TEST(SamplerTest, ARowDoesNotDependOnItsNeighboursOrThreads) {
  constexpr int64_t kRows = 45, kVocab = 777, kStride = 800;
  std::vector<float> logits(kRows * kStride);
  std::vector<SampleRow> rows;
  std::vector<int32_t> alone;
  for (int64_t r = 0; r < kRows; ++r) {
    const std::vector<float> row = RandomLogits(kVocab, 2, r);
    std::copy(row.begin(), row.end(), logits.begin() + r * kStride);
    SamplingParams params = AllKinds()[r % AllKinds().size()];
    params.seed = 77;
    rows.push_back({.params = params, .index = r});
    alone.push_back(SampleOne(row, params, r));
  }
  logits[7 * kStride + 5] = std::numeric_limits<float>::quiet_NaN();
  alone[7] = kInvalidLogits;
  for (int threads : {1, 3}) {
    ThreadPool pool(threads);
    Sampler sampler(kVocab);
    std::vector<int32_t> ids;
    for (int repeat = 0; repeat < 3; ++repeat) {
      sampler.Sample({.data = logits.data(), .rows = kRows, .cols = kVocab, .stride = kStride},
                     rows, &ids, Stream{.pool = &pool});
      EXPECT_EQ(ids, alone) << threads;
    }
  }
}

TEST(ValidateSamplingTest, NamesTheParameter) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  auto message = [](const SamplingParams& params) {
    absl::Status status = ValidateSampling(params);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  using ::testing::HasSubstr;
  for (float bad : {-0.1f, 1001.0f, kNan, std::numeric_limits<float>::infinity()}) {
    EXPECT_THAT(message({.temperature = bad}), HasSubstr("temperature"));
  }
  EXPECT_THAT(message({.top_k = -1}), HasSubstr("top_k"));
  for (float bad : {0.0f, -1.0f, 1.01f, kNan}) {
    EXPECT_THAT(message({.top_p = bad}), HasSubstr("top_p"));
  }
  for (float bad : {-0.1f, 1.01f, kNan}) EXPECT_THAT(message({.min_p = bad}), HasSubstr("min_p"));
  EXPECT_TRUE(ValidateSampling({}).ok());
  for (const SamplingParams& params : AllKinds()) EXPECT_TRUE(ValidateSampling(params).ok());
}

}  // namespace
}  // namespace rankine
