// The fit of a stack in two metrics against NumPy's least squares over samples
// (tests/testing/generators/stacks.py).
#include "tools/compress/stack_fit.h"

#include <cmath>

#include "gtest/gtest.h"
#include "tests/tools/compress/stack_testing.h"

namespace rankine {
namespace {

using testing::MatrixOfJson;
using testing::Projections;
using testing::RelativeDistance;

StackMetric MetricOf(const nlohmann::json& j) {
  StackMetric metric{.inputs = MatrixOfJson(j.at("h")), .transposed = MatrixOfJson(j.at("h_o"))};
  for (size_t i = 0; i < 3; ++i) {
    metric.row_weights.insert(metric.row_weights.end(),
                              static_cast<size_t>(Projections::kHeads[i] * Projections::kDim),
                              j.at("shares").at(Projections::kNames[i]).get<double>());
  }
  for (double& v : metric.transposed.values) v *= j.at("shares").at("o").get<double>();
  return metric;
}

StackForm FormOf(const nlohmann::json& j) {
  return {.heads = MatrixOfJson(j.at("a")),
          .dims = MatrixOfJson(j.at("b")),
          .features = MatrixOfJson(j.at("c")),
          .core = Tensor64(j.at("ranks").get<std::vector<int64_t>>(),
                           j.at("g").get<std::vector<double>>())};
}

TEST(StackFitTest, EqualsLeastSquaresOverTheSamples) {
  int cases = 0;
  const nlohmann::json golden = testing::GoldenOf("stacks.json");
  for (const auto& j : golden.at("fits")) {
    SCOPED_TRACE(j.at("name").get<std::string>());
    const Matrix64 t = Projections::Of(j.at("weights")).Stacked();
    const StackMetric metric = MetricOf(j);
    StackForm form = FormOf(j);
    const double before = StackError(metric, Difference(t, StackProduct(form)));
    const auto status = FitStack(t, metric, {.max_rounds = j.at("rounds"), .least_gain = 0}, &form);
    ASSERT_TRUE(status.ok()) << status;
    const double after = StackError(metric, Difference(t, StackProduct(form)));
    EXPECT_LT(after, before);
    EXPECT_NEAR(after, j.at("error").get<double>(), 1e-8 * after);
    // Normal equations square the samples' condition, of a few 1e3.
    EXPECT_LT(RelativeDistance(StackProduct(form), MatrixOfJson(j.at("product"))), 1e-6);
    ++cases;
  }
  EXPECT_EQ(cases, 3);
}

TEST(StackFitTest, NeverRisesAndLeavesWhatNobodySees) {
  const nlohmann::json j = testing::GoldenOf("stacks.json").at("fits").at(2);
  const Matrix64 t = Projections::Of(j.at("weights")).Stacked();
  StackMetric metric = MetricOf(j);
  // A feature that no input has, and a dimension that o's input lacks.
  for (int64_t i = 0; i < metric.inputs.rows; ++i) metric.inputs(i, 3) = metric.inputs(3, i) = 0;
  for (int64_t i = 0; i < metric.transposed.rows; ++i) {
    metric.transposed(i, 5) = metric.transposed(5, i) = 0;
  }
  StackForm form = FormOf(j);
  double before = StackError(metric, Difference(t, StackProduct(form)));
  for (int round = 0; round < 5; ++round) {
    ASSERT_TRUE(FitStack(t, metric, {.max_rounds = 1, .least_gain = 0}, &form).ok());
    const double now = StackError(metric, Difference(t, StackProduct(form)));
    EXPECT_LE(now, before * (1 + 1e-9));
    EXPECT_TRUE(std::isfinite(now));
    before = now;
  }
}

}  // namespace
}  // namespace rankine
