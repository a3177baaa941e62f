#include "tools/measure/statistics.h"

#include "gtest/gtest.h"

namespace rankine {
namespace {

TEST(MedianTest, IsTheMiddleOrTheMeanOfTheTwoMiddles) {
  EXPECT_EQ(Median({}), 0);
  EXPECT_EQ(Median({7}), 7);
  EXPECT_EQ(Median({5, 1}), 3);
  EXPECT_EQ(Median({9, 1, 4}), 4);
  EXPECT_EQ(Median({8, 1, 100, 2}), 5);
}

TEST(PairedRatioTest, IsEmptyWithoutPairs) {
  const Interval ratio = PairedRatio({}, {});
  EXPECT_EQ(ratio.median, 0);
  EXPECT_EQ(ratio.low, 0);
  EXPECT_EQ(ratio.high, 0);
}

TEST(PairedRatioTest, ADriftThatBothShareCancels) {
  // Speeds that fall by half on the way; each pair has the ratio 2.
  const Interval ratio = PairedRatio({16, 12, 10, 8}, {8, 6, 5, 4});
  EXPECT_EQ(ratio.median, 2);
  EXPECT_EQ(ratio.low, 2);
  EXPECT_EQ(ratio.high, 2);
}

TEST(PairedRatioTest, IsTheMedianOfRatiosAndNotTheRatioOfMedians) {
  // Ratios 1, 3, 10; the medians' ratio would be 3 / 2.
  EXPECT_EQ(PairedRatio({2, 3, 100}, {2, 1, 10}).median, 3);
}

TEST(PairedRatioTest, TheIntervalHoldsTheMedianAndAnOutlierDoesNotRuleIt) {
  std::vector<double> a, b;
  for (int i = 1; i <= 21; ++i) {
    a.push_back(1 + i * 0.01);
    b.push_back(1);
  }
  a.back() = 1000;
  const Interval ratio = PairedRatio(a, b);
  EXPECT_DOUBLE_EQ(ratio.median, 1.11);
  EXPECT_LT(ratio.low, ratio.median);
  EXPECT_GT(ratio.high, ratio.median);
  EXPECT_GT(ratio.low, 1.01);
  EXPECT_LT(ratio.high, 1.2);
}

TEST(PairedRatioTest, TheSamePairsGiveTheSameInterval) {
  const std::vector<double> a = {1, 2, 3, 4, 5}, b = {5, 1, 4, 2, 3};
  EXPECT_EQ(PairedRatio(a, b).low, PairedRatio(a, b).low);
  EXPECT_EQ(PairedRatio(a, b).high, PairedRatio(a, b).high);
}

}  // namespace
}  // namespace rankine
