#include "tools/compress/search/gaussian_process.h"

#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace rankine {
namespace {

Matrix64 ReadMatrix(const nlohmann::json& j) {
  Matrix64 a(j.size(), j.at(0).size());
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t k = 0; k < a.cols; ++k) a(i, k) = j.at(i).at(k).get<double>();
  }
  return a;
}

nlohmann::json Goldens() {
  return nlohmann::json::parse(
      std::ifstream(std::string(RANKINE_TEST_DATA) + "/compress/gaussian_process.json"));
}

// Both sides solve with K + noise I in f64: errors of about n eps (variance n + noise) / noise.
double Tolerance(const nlohmann::json& g) {
  const auto n = static_cast<double>(g.at("y").size());
  const double variance = g.at("variance"), noise = g.at("noise");
  return 10 * n * std::numeric_limits<double>::epsilon() * (variance * n + noise) / noise *
         std::sqrt(n);
}

// Against scikit-learn and SciPy (tests/testing/generators/gaussian_process_goldens.py).
TEST(GaussianProcessTest, PredictsAsScikitLearn) {
  for (const nlohmann::json& g : Goldens()) {
    const auto gp = GaussianProcess::Create(
        ReadMatrix(g.at("x")), g.at("y").get<std::vector<double>>(),
        {.length = g.at("length"), .variance = g.at("variance"), .noise = g.at("noise")});
    ASSERT_TRUE(gp.ok()) << gp.status();
    const double tolerance = Tolerance(g);
    ASSERT_LT(tolerance, 1e-4);
    EXPECT_NEAR(gp->log_likelihood(), g.at("log_likelihood").get<double>(),
                tolerance * static_cast<double>(g.at("y").size()));
    const Matrix64 queries = ReadMatrix(g.at("queries"));
    for (int64_t i = 0; i < queries.rows; ++i) {
      const Prediction p = gp->Predict(queries.Row(i));
      EXPECT_NEAR(p.mean, g.at("mean").at(i).get<double>(), tolerance);
      const double deviation = g.at("deviation").at(i);
      EXPECT_NEAR(p.deviation * p.deviation, deviation * deviation, tolerance);
      EXPECT_NEAR(gp->ExpectedImprovement(queries.Row(i), g.at("best")),
                  g.at("improvement").at(i).get<double>(), tolerance / deviation);
    }
  }
}

TEST(GaussianProcessTest, FitsAsLikelyAsScikitLearn) {
  for (const nlohmann::json& g : Goldens()) {
    if (g.at("greatest_log_likelihood").is_null()) continue;
    const auto gp = GaussianProcess::Fit(ReadMatrix(g.at("x")), g.at("y"));
    ASSERT_TRUE(gp.ok()) << gp.status();
    // A step of a thousandth in the parameters' logarithms around a maximum.
    EXPECT_GE(gp->log_likelihood(), g.at("greatest_log_likelihood").get<double>() - 1e-3);
    EXPECT_GT(gp->log_likelihood(), g.at("log_likelihood").get<double>());
  }
}

TEST(GaussianProcessTest, ExpectsNothingWhereItKnows) {
  Matrix64 x(3, 1);
  x.values = {0.1, 0.5, 0.9};
  const auto gp = GaussianProcess::Create(x, {1, 0, 2}, {.length = 0.3, .variance = 1, .noise = 0});
  ASSERT_TRUE(gp.ok()) << gp.status();
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(gp->ExpectedImprovement(x.Row(i), 0), 0, 1e-7);
    EXPECT_GE(gp->ExpectedImprovement(x.Row(i), 0), 0);
  }
  const double between = 0.4;
  EXPECT_GT(gp->ExpectedImprovement(&between, 0), 1e-3);
}

TEST(GaussianProcessTest, BearsEqualObservationsAndEqualPoints) {
  Matrix64 x(4, 2);
  x.values = {0.1, 0.2, 0.1, 0.2, 0.7, 0.7, 0.3, 0.9};
  const auto flat = GaussianProcess::Fit(x, {3, 3, 3, 3});
  ASSERT_TRUE(flat.ok()) << flat.status();
  const double point[] = {0.5, 0.5};
  EXPECT_DOUBLE_EQ(flat->Predict(point).mean, 3);
  EXPECT_LT(flat->ExpectedImprovement(point, 3), 1e-9);
  const auto noisy = GaussianProcess::Fit(x, {1, 1.5, 3, 2});
  ASSERT_TRUE(noisy.ok()) << noisy.status();
  EXPECT_GT(noisy->parameters().noise, 0);
}

TEST(GaussianProcessTest, RefusesBadInput) {
  Matrix64 x(2, 1);
  x.values = {0.5, 0.5};
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(GaussianProcess::Create(x, {1, 2}, {}).ok()) << "equal points without noise";
  EXPECT_FALSE(GaussianProcess::Create(x, {1}, {.noise = 1}).ok());
  EXPECT_FALSE(GaussianProcess::Create(x, {1, nan}, {.noise = 1}).ok());
  EXPECT_FALSE(GaussianProcess::Create(x, {1, 2}, {.length = 0, .noise = 1}).ok());
  EXPECT_FALSE(GaussianProcess::Create(x, {1, 2}, {.variance = -1, .noise = 1}).ok());
  x.values[0] = nan;
  EXPECT_FALSE(GaussianProcess::Fit(x, {1, 2}).ok());
  EXPECT_FALSE(GaussianProcess::Fit(Matrix64(0, 1), {}).ok());
}

}  // namespace
}  // namespace rankine
