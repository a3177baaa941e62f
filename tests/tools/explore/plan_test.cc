#include "tools/explore/plan.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/tiny_model.h"
#include "tools/cli/factorize_flags.h"
#include "tools/explore/frontier.h"
#include "tools/explore/words.h"

namespace rankine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

std::vector<std::string> Names(const Axes& axes) {
  std::vector<std::string> names;
  const auto points = PlanPoints(axes);
  EXPECT_TRUE(points.ok()) << points.status();
  for (const PointSpec& p : *points) names.push_back(p.name);
  return names;
}

std::string PlanError(const Axes& axes) {
  const auto points = PlanPoints(axes);
  EXPECT_FALSE(points.ok());
  return std::string(points.status().message());
}

TEST(PlanPointsTest, GoesThroughAllChainsBudgetByBudget) {
  EXPECT_THAT(Names({.methods = {"svd", "asvd"},
                     .keep = {0.6, 0.9},
                     .bits = {3.5},
                     .encodings = {"int4:g64"},
                     .baselines = {{"shipped", "x.gguf"}},
                     .named_points = {{"mine", "--method svd"}}}),
              ElementsAre("shipped", "int4:g64", "mine", "svd 0.9", "asvd 0.9", "svd 0.6",
                          "asvd 0.6", "svd 3.5 bits", "asvd 3.5 bits"));
}

TEST(PlanPointsTest, RecipesAreFlagsOfFactorize) {
  const auto points = PlanPoints({.methods = {"svd"},
                                  .allocations = {"loss-greedy"},
                                  .layer_sets = {{"mlp", "mlp\\.(up|gate) x'"}},
                                  .factor_encodings = {"int4:g64"},
                                  .keep = {0.5}});
  ASSERT_TRUE(points.ok()) << points.status();
  ASSERT_EQ(points->size(), 1u);
  EXPECT_EQ((*points)[0].name, "svd loss-greedy mlp int4:g64 0.5");
  const auto options = ParseFactorizeFlags(*SplitWords((*points)[0].recipe));
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->method, "svd");
  EXPECT_EQ(options->allocation, "loss-greedy");
  EXPECT_EQ(options->only_regex, "mlp\\.(up|gate) x'");
  EXPECT_EQ(options->factor_encoding.bits, 4);
  EXPECT_EQ(options->keep, 0.5);
}

// Methods have allocations of their own, which only a flag replaces.
TEST(PlanPointsTest, AnAllocationIsOnlyNamedWhereItIsGiven) {
  const auto own = PlanPoints({.methods = {"svd"}, .keep = {0.5}});
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_EQ((*own)[0].recipe, "--method svd --keep 0.5");
  const auto uniform = PlanPoints({.methods = {"svd"}, .allocations = {"uniform"}, .keep = {0.5}});
  ASSERT_TRUE(uniform.ok()) << uniform.status();
  EXPECT_EQ((*uniform)[0].name, "svd uniform 0.5");
  EXPECT_EQ((*uniform)[0].recipe, "--method svd --allocation uniform --keep 0.5");
}

TEST(PlanPointsTest, BadAxesAreErrors) {
  EXPECT_THAT(PlanError({.methods = {"svd"}}), HasSubstr("--keep"));
  EXPECT_THAT(PlanError({.keep = {0.5}}), HasSubstr("--methods"));
  EXPECT_THAT(PlanError({.methods = {"svd"}, .keep = {1.5}}), HasSubstr("1.5"));
  EXPECT_THAT(PlanError({.methods = {"svd"}, .bits = {-1}}), HasSubstr("--bits"));
  EXPECT_THAT(PlanError({.encodings = {"int9"}}), HasSubstr("--encodings"));
  EXPECT_THAT(PlanError({.encodings = {"int4:g64", "int4:g64"}}), HasSubstr("int4:g64"));
  EXPECT_THAT(PlanError({.baselines = {{"dense", "x"}}}), HasSubstr("dense"));
}

TEST(ReadPointsFileTest, ReadsNamesAndFlags) {
  const testing::TempFolder temp;
  testing::WriteWholeFile(temp / "points", "# ours\n\n best of all  --method svd --keep 0.5 \n");
  const auto points = ReadPointsFile(temp / "points");
  ASSERT_TRUE(points.ok()) << points.status();
  EXPECT_THAT(*points, ElementsAre(Pair("best of all", "--method svd --keep 0.5")));
  testing::WriteWholeFile(temp / "bad", "x --method svd\n--method svd\n");
  EXPECT_THAT(std::string(ReadPointsFile(temp / "bad").status().message()), HasSubstr("bad:2"));
  testing::WriteWholeFile(temp / "none", "\n#\n");
  EXPECT_THAT(std::string(ReadPointsFile(temp / "none").status().message()), HasSubstr("no point"));
}

TEST(ParseFactorizeFlagsTest, RefusesWhatFactorizeRefuses) {
  EXPECT_THAT(
      std::string(ParseFactorizeFlags({"--method", "svd", "--rnak", "3"}).status().message()),
      HasSubstr("--rnak"));
  EXPECT_THAT(std::string(ParseFactorizeFlags({"--keep", "0.5"}).status().message()),
              HasSubstr("--method"));
  EXPECT_THAT(
      std::string(
          ParseFactorizeFlags({"--method", "svd", "--factor-encode", "int9"}).status().message()),
      HasSubstr("--factor-encode"));
}

TEST(WordsTest, SplitAndJoinAreInverse) {
  const std::vector<std::string> words = {"--only", "a b", "it's", "", "x\"y", "plain:1,2"};
  const auto split = SplitWords(JoinWords(words));
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_EQ(*split, words);
  EXPECT_FALSE(SplitWords("a 'b").ok());
}

TEST(SplitNamedTest, AFileOfThatNameIsTheFile) {
  const testing::TempFolder temp;
  EXPECT_THAT(SplitNamed("code=a/b.txt"), Pair("code", "a/b.txt"));
  EXPECT_THAT(SplitNamed("a/b.txt"), Pair("b.txt", "a/b.txt"));
  EXPECT_THAT(SplitNamed("a/b/"), Pair("b", "a/b/"));
  const std::string path = temp / "x=y.txt";
  testing::WriteWholeFile(path, "");
  EXPECT_THAT(SplitNamed(path), Pair("x=y.txt", path));
}

PointResult Result(const std::string& name, int64_t bytes, double loss, double error = 0.01,
                   double speed = 1) {
  PointResult p{.name = name, .size = {.linear_weights = 100, .linear_bytes = bytes}};
  p.texts.push_back({.log_difference = {.value = loss, .standard_error = error}});
  p.speed = SpeedResult{.decode_ratio = {.median = speed, .low = speed, .high = speed}};
  return p;
}

TEST(FrontierTest, HoldsWhatNothingBeatsInBoth) {
  const std::vector<PointResult> points = {
      Result("dense", 100, 0, 0, 1), Result("same", 100, 0, 0, 1.5),
      Result("worse", 100, 0.1, 0, 2), Result("small", 50, 0.2, 0, 1.2),
      Result("smaller and better", 40, 0.15, 0, 0.5)};
  EXPECT_THAT(SizeFrontier(points), ElementsAre(true, true, false, false, true));
  EXPECT_THAT(SpeedFrontier(points), ElementsAre(false, true, true, false, false));
}

class PruneTest : public ::testing::Test {
 protected:
  const PointSpec large_{.name = "large", .chain = "c", .budget = 0.8};
  const PointSpec other_{.name = "other"};
  const PointSpec small_{.name = "small", .chain = "c", .budget = 0.4};
};

TEST_F(PruneTest, NeedsASmallerAndClearlyBetterPoint) {
  const PointResult large = Result("large", 80, 0.5, 0.03);
  // The small one would take 40 bytes.
  EXPECT_THAT(PruneReason(small_, {large_, other_}, {large, Result("other", 40, 0.3, 0.04)}),
              HasSubstr("other"));
  EXPECT_EQ(PruneReason(small_, {large_, other_}, {large, Result("other", 41, 0.3, 0.04)}), "");
  // 0.1 is two standard errors of 0.05.
  EXPECT_EQ(PruneReason(small_, {large_, other_}, {large, Result("other", 40, 0.401, 0.04)}), "");
  EXPECT_NE(PruneReason(small_, {large_, other_}, {large, Result("other", 40, 0.399, 0.04)}), "");
}

TEST_F(PruneTest, OnlyWithinAChainAndOnlyDownwards) {
  const std::vector<PointResult> results = {Result("large", 80, 0.5), Result("other", 10, 0)};
  PointSpec spec = small_;
  spec.chain = "another";
  EXPECT_EQ(PruneReason(spec, {large_, other_}, results), "");
  spec.chain = "";
  EXPECT_EQ(PruneReason(spec, {large_, other_}, results), "");
  spec = small_;
  spec.budget = 0.9;
  EXPECT_EQ(PruneReason(spec, {large_, other_}, results), "");
}

}  // namespace
}  // namespace rankine
