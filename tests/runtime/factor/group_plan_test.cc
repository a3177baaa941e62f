// Which forms a group keeps, and how a budget is shared.
#include "runtime/factor/group_plan.h"

#include "tests/runtime/factor/group_testing.h"

namespace rankine {
namespace {

using testing::HasSubstr;

GroupPlan Plan(int64_t bytes, double microseconds) {
  return {.forms = {{"x"}}, .extra_bytes = bytes, .microseconds = microseconds};
}

std::vector<int64_t> Spent(const std::vector<std::vector<GroupPlan>>& groups, int64_t budget) {
  const auto chosen = SpendExtraBytes(groups, budget);
  EXPECT_TRUE(chosen.ok()) << chosen.status();
  std::vector<int64_t> bytes;
  if (!chosen.ok()) return bytes;
  for (const GroupPlan& plan : *chosen) bytes.push_back(plan.extra_bytes);
  return bytes;
}

TEST(GroupPlanTest, ABudgetGoesWhereAByteSavesMost) {
  const std::vector<std::vector<GroupPlan>> groups = {
      {Plan(0, 10), Plan(100, 5)},                // 0.05 us a byte
      {Plan(0, 20), Plan(50, 10), Plan(150, 8)},  // 0.2, then 0.02
      {Plan(0, 1)},
      {Plan(0, 10), Plan(100, 5)}};
  EXPECT_EQ(Spent(groups, 0), (std::vector<int64_t>{0, 0, 0, 0}));
  EXPECT_EQ(Spent(groups, 50), (std::vector<int64_t>{0, 50, 0, 0}));
  // The first of equals; what is left is too little for the second.
  EXPECT_EQ(Spent(groups, 249), (std::vector<int64_t>{100, 50, 0, 0}));
  EXPECT_EQ(Spent(groups, 349), (std::vector<int64_t>{100, 50, 0, 100}));
  EXPECT_EQ(Spent(groups, 350), (std::vector<int64_t>{100, 150, 0, 100}));
}

TEST(GroupPlanTest, WhatAGroupCannotDoWithoutComesFirst) {
  std::vector<std::vector<GroupPlan>> groups = {{Plan(0, 10), Plan(60, 1)}, {Plan(50, 9)}};
  groups[1][0].needs = "w needs 50 bytes";
  EXPECT_EQ(Spent(groups, 60), (std::vector<int64_t>{0, 50}));
  EXPECT_EQ(Spent(groups, 110), (std::vector<int64_t>{60, 50}));
  const auto refused = SpendExtraBytes(groups, 49);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(std::string(refused.status().message()), "w needs 50 bytes");
}

TEST(GroupPlanTest, BucketsHoldTheirTokens) {
  EXPECT_EQ(kTokenBuckets[BucketOf(1)], 1);
  EXPECT_EQ(kTokenBuckets[BucketOf(2)], 2);
  EXPECT_EQ(kTokenBuckets[BucketOf(3)], 4);
  EXPECT_EQ(kTokenBuckets[BucketOf(257)], 512);
  EXPECT_EQ(kTokenBuckets[BucketOf(100000)], 512);
}

class GroupFormsTest : public GroupTest {
 protected:
  // Few bytes and many operations: factors win one token, dense a long prefill.
  FactoredMatrix Mpo() { return RandomMpo(&source_, "w", {16, 16}, {16, 16}, 32, kBf16, 1); }
  // A machine that computes little beside what it reads, with steps that cost nothing.
  static DeviceProfile Slow() {
    return {.read_bytes_per_second = 1e9,
            .f32_flops_per_second = 2e10,
            .bf16_flops_per_second = 2e10,
            .int8_flops_per_second = 2e10,
            .few_int8_flops_per_second = 2e10,
            .step_seconds = 0,
            .l2_bytes_per_second = 1e12,
            .l3_bytes_per_second = 1e12};
  }
};

TEST_F(GroupFormsTest, FastestKeepsTwoFormsWhereTheBytesAllow) {
  LinearGroupOptions options{.weight_dtype = DType::kF32,
                             .compute = DType::kF32,
                             .mode = PlanMode::kFastest,
                             .profile = Slow()};
  const LinearGroup one = Load({Mpo()}, options);
  EXPECT_EQ(one.num_plans(), 1u);
  options.extra_weight_bytes = 256 * 256 * 4;
  const LinearGroup two = Load({Mpo()}, options);
  ASSERT_EQ(two.num_plans(), 2u);
  EXPECT_EQ(two.plan().expressions[0], one.plan().expressions[0]);
  EXPECT_EQ(two.plan_of(512).expressions[0], "x [C1 C2]");
  EXPECT_EQ(two.weight_bytes(), one.weight_bytes() + 256 * 256 * 4);
  EXPECT_GE(two.workspace_bytes(512), two.plan_of(512).workspace_bytes(512));
  for (const int64_t tokens : {1, 2, 33, 300}) ExpectMatches(two, tokens, F32Roundoff(300));
  // Stable: the same budget buys the form that is best at one token, for all.
  options.mode = PlanMode::kStable;
  EXPECT_EQ(Load({Mpo()}, options).num_plans(), 1u);
  // One byte less and there is no second form.
  options.mode = PlanMode::kFastest;
  --options.extra_weight_bytes;
  EXPECT_EQ(Load({Mpo()}, options).num_plans(), 1u);
}

TEST_F(GroupFormsTest, CoresThatBothFormsHaveAreHeldOnce) {
  // Q stays as it is; only the MPO term has a second form.
  FactoredMatrix both = Mpo();
  const Core q = RandomCore(&source_, "q4", "Q",
                            {{"o1", 0, 16}, {"o2", 0, 16}, {"i1", 0, 16}, {"i2", 0, 16}}, kBf16, 6);
  both.terms.push_back(Term{{q}});
  AddRandomBias(&source_, &both, 7);
  LinearGroupOptions options{.weight_dtype = DType::kF32,
                             .compute = DType::kF32,
                             .extra_weight_bytes = 256 * 256 * 4,
                             .mode = PlanMode::kFastest,
                             .profile = Slow()};
  const LinearGroup two = Load({both}, options);
  ASSERT_EQ(two.num_plans(), 2u);
  options.extra_weight_bytes = 0;
  const LinearGroup one = Load({both}, options);
  // The bias, which each form's last product adds, is the only other copy.
  EXPECT_EQ(two.weight_bytes(), one.weight_bytes() + 256 * 256 * 4 + 256 * 4);
  for (const int64_t tokens : {1, 33, 300}) ExpectMatches(two, tokens, F32Roundoff(600));
}

TEST_F(GroupFormsTest, TheListsOfGathersCountAsBytes) {
  // Gathers cost no time, and the order that needs them has the fewest operations.
  const FactoredMatrix m = RandomMpo(&source_, "w", {24, 24}, {48, 32}, 32, kBf16, 1);
  LinearGroupOptions options{.weight_dtype = DType::kBF16, .compute = DType::kBF16};
  const int64_t stored = Load({m}, options).weight_bytes();
  options.mode = PlanMode::kFastest;
  options.profile = Slow();
  options.profile.store_seconds = 0;
  bool gathers = false;
  for (const int64_t budget : {0, 100000, 200000, 230528, 260000, 400000}) {
    options.extra_weight_bytes = budget;
    const LinearGroup group = Load({m}, options);
    EXPECT_LE(group.weight_bytes(), stored + budget) << budget;
    for (const int64_t tokens : kTokenBuckets) {
      for (const PlanStep& step : group.plan_of(tokens).steps)
        gathers |= step.kind == StepKind::kPermute;
    }
  }
  EXPECT_TRUE(gathers);
}

TEST_F(GroupFormsTest, PlansGrowInMemoryAndFallInTime) {
  const FactoredMatrix m = RandomMpo(&source_, "w", {8, 8, 4}, {8, 4, 8}, 12, kBf16, 1);
  for (const PlanMode mode : {PlanMode::kStable, PlanMode::kFastest}) {
    const auto plans = LinearGroup::Plans(
        {&m, 1}, {.extra_weight_bytes = 1 << 24, .mode = mode, .profile = Slow()});
    ASSERT_TRUE(plans.ok()) << plans.status();
    for (size_t i = 1; i < plans->size(); ++i) {
      EXPECT_GT((*plans)[i].extra_bytes, (*plans)[i - 1].extra_bytes);
      EXPECT_LT((*plans)[i].microseconds, (*plans)[i - 1].microseconds);
    }
    EXPECT_EQ((*plans)[0].extra_bytes, 0);
  }
}

TEST_F(GroupFormsTest, SaysWhatItNeedsBytesFor) {
  FactoredMatrix m = RandomDense(&source_, "w", 64, 128, kInt4, 1);
  std::swap(m.terms[0].cores[0].legs[0], m.terms[0].cores[0].legs[1]);  // blocks along the output
  const auto refused = LinearGroup::Load(*device_, {&m, 1}, {}, source_);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("hold core W as floats"));
}

}  // namespace
}  // namespace rankine
