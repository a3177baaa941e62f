#include "tools/compress/search/bayes_optimizer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace rankine {
namespace {

// A valley along a diagonal with one lowest point, 0 at (0.2, 0.7, 0.4).
double Valley(const std::vector<double>& x) {
  const double a = x[0] - 0.2, b = x[1] - 0.7, c = x[2] - 0.4;
  return 3 * (a + b) * (a + b) + (a - b) * (a - b) + 2 * c * c + 0.3 * std::pow(a, 4);
}

std::vector<Evaluation> Minimise(const BayesOptimizer& optimizer, int evaluations) {
  std::vector<Evaluation> done;
  for (int i = 0; i < evaluations; ++i) {
    const auto point = optimizer.Propose(done);
    EXPECT_TRUE(point.ok()) << point.status();
    done.push_back({*point, Valley(*point)});
  }
  return done;
}

double Best(const std::vector<Evaluation>& done) {
  double best = std::numeric_limits<double>::infinity();
  for (const Evaluation& e : done) best = std::min(best, e.value);
  return best;
}

TEST(BayesOptimizerTest, FindsAKnownMinimum) {
  for (const uint64_t seed : {0, 1, 2}) {
    const auto done = Minimise(BayesOptimizer({.dims = 3, .seed = seed, .initial = 6}), 30);
    // Of the volume of the cube 1e-3 to 1e-4 lie this low, which 30 random points rarely meet.
    EXPECT_LT(Best(done), 0.005) << seed;
    const auto initial = std::vector<Evaluation>(done.begin(), done.begin() + 7);
    EXPECT_GT(Best(initial), 0.005) << seed;
  }
}

TEST(BayesOptimizerTest, StartsWithTheCentreAndALatinHypercube) {
  const auto done = Minimise(BayesOptimizer({.dims = 3, .seed = 4, .initial = 5}), 6);
  EXPECT_EQ(done[0].point, std::vector<double>(3, 0.5));
  for (size_t d = 0; d < 3; ++d) {
    std::set<int> slices;
    for (size_t i = 1; i < 6; ++i) slices.insert(static_cast<int>(5 * done[i].point[d]));
    EXPECT_EQ(slices, (std::set<int>{0, 1, 2, 3, 4}));
  }
}

// What is resumed goes on as it would have.
TEST(BayesOptimizerTest, ProposesByTheSeedAndWhatIsDone) {
  const BayesOptimizer::Options options{.dims = 3, .seed = 9, .initial = 4};
  auto done = Minimise(BayesOptimizer(options), 10);
  const auto next = BayesOptimizer(options).Propose(done);
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(*BayesOptimizer(options).Propose(done), *next);
  for (const double x : *next) {
    EXPECT_GE(x, 0);
    EXPECT_LE(x, 1);
  }
  EXPECT_NE(*BayesOptimizer({.dims = 3, .seed = 10, .initial = 4}).Propose({done[0]}),
            done[1].point);
  done[5].value = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(BayesOptimizer(options).Propose(done).ok());
}

}  // namespace
}  // namespace rankine
