// HOSVD and HOOI against NumPy (tests/testing/generators/tensors.py).
#include "tools/compress/tucker_decomposition.h"

#include <cmath>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace rankine {
namespace {

using ::testing::HasSubstr;

double Distance(const Tensor64& a, const Tensor64& b) {
  Tensor64 difference = a;
  for (size_t i = 0; i < a.values.size(); ++i) difference.values[i] -= b.values[i];
  return std::sqrt(SquaredNorm(difference) / SquaredNorm(b));
}

double Loss(const Tensor64& t, const Tucker& tucker) {
  Tensor64 difference = TuckerProduct(tucker);
  for (size_t i = 0; i < t.values.size(); ++i) difference.values[i] -= t.values[i];
  return SquaredNorm(difference);
}

Tensor64 RandomTensor(std::vector<int64_t> extents, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  Tensor64 t(std::move(extents));
  for (double& v : t.values) v = normal(random);
  return t;
}

TEST(TuckerDecompositionTest, EqualsNumPy) {
  std::ifstream in(std::string(RANKINE_TEST_DATA) + "/compress/tensors.json");
  int cases = 0;
  const auto file = nlohmann::json::parse(in);
  for (const auto& j : file.at("tucker")) {
    SCOPED_TRACE(j.at("name").get<std::string>());
    const std::vector<int64_t> extents = j.at("extents"), ranks = j.at("ranks");
    const auto read = [&](const char* key) {
      return Tensor64(extents, j.at(key).get<std::vector<double>>());
    };
    const Tensor64 t = read("t");
    const auto hosvd = Hosvd(t, ranks);
    ASSERT_TRUE(hosvd.ok()) << hosvd.status();
    EXPECT_LT(Distance(TuckerProduct(*hosvd), read("hosvd")), 1e-11);
    const auto hooi = Hooi(t, ranks, {.max_rounds = 500, .least_gain = 0});
    ASSERT_TRUE(hooi.ok()) << hooi.status();
    // It stops where a round no longer raises what is kept, which is flat there: the root of eps.
    EXPECT_LT(Distance(TuckerProduct(*hooi), read("hooi")), 1e-7);
    ++cases;
  }
  EXPECT_GE(cases, 4);
}

TEST(TuckerDecompositionTest, HooiIsNeverWorseThanHosvdAndTruthful) {
  int better = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Tensor64 t = RandomTensor({4, 6, 9}, seed);
    const auto extent = static_cast<int64_t>(1 + seed % 4);
    const std::vector<int64_t> ranks{extent, 3, 3};
    const auto hosvd = Hosvd(t, ranks), hooi = Hooi(t, ranks);
    ASSERT_TRUE(hosvd.ok() && hooi.ok());
    EXPECT_LE(Loss(t, *hooi), Loss(t, *hosvd));
    better += Loss(t, *hooi) < Loss(t, *hosvd) * (1 - 1e-6) ? 1 : 0;
    // Orthonormal factors: what is lost is what the core does not keep.
    EXPECT_NEAR(Loss(t, *hooi), SquaredNorm(t) - SquaredNorm(hooi->core), 1e-10 * SquaredNorm(t));
  }
  EXPECT_GT(better, 10);
}

TEST(TuckerDecompositionTest, FullRanksLoseNothing) {
  const Tensor64 t = RandomTensor({3, 4, 5}, 1);
  EXPECT_LT(Loss(t, *Hooi(t, std::vector<int64_t>{3, 4, 5})), 1e-20);
  EXPECT_LT(Loss(RandomTensor({1, 4, 2}, 2),
                 *Hooi(RandomTensor({1, 4, 2}, 2), std::vector<int64_t>{1, 2, 2})),
            1e-20);
}

TEST(TuckerDecompositionTest, RefusesRanksThatCannotBe) {
  const Tensor64 t = RandomTensor({3, 4, 20}, 1);
  const auto error = [&](std::vector<int64_t> ranks) {
    return std::string(Hooi(t, ranks).status().message());
  };
  EXPECT_THAT(error({4, 1, 1}), HasSubstr("rank 4 of mode 1 is outside [1, 3]"));
  EXPECT_THAT(error({1, 0, 1}), HasSubstr("rank 0 of mode 2"));
  EXPECT_THAT(error({2, 2, 5}), HasSubstr("above 4"));
  EXPECT_THAT(error({2, 2}), HasSubstr("2 ranks for a tensor of 3"));
}

}  // namespace
}  // namespace rankine
