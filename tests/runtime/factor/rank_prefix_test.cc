// Plans for a prefix of the rank, from the same memory.
#include "tests/runtime/factor/group_testing.h"

namespace rankine {
namespace {

using testing::HasSubstr;

class RankPrefixTest : public GroupTest {
 protected:
  std::string ErrorOf(const LinearGroup& group, int64_t rank) {
    const auto plan = group.PlanForRank(rank);
    EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(plan.status().message());
  }
};

TEST_F(RankPrefixTest, EveryPrefixIsTheMatrixOfItsSlices) {
  FactoredMatrix q = RandomSvd(&source_, "q", 200, 240, 80, kBf16, 1);
  FactoredMatrix k = RandomSvd(&source_, "k", 150, 240, 40, kBf16, 10);
  const FactoredMatrix v = RandomDense(&source_, "v", 30, 240, kBf16, 20);
  AddRandomBias(&source_, &k, 30);
  const LinearGroup group = Load({q, k, v}, {.weight_dtype = DType::kF32, .compute = DType::kF32});
  int64_t before = 0;
  for (const int64_t rank : {16, 32, 48, 80, 96}) {
    const auto plan = group.PlanForRank(rank);
    ASSERT_TRUE(plan.ok()) << plan.status();
    for (const int64_t tokens : {1, 5, 33})
      ExpectMatches(group, tokens, F32Roundoff(400), &*plan, rank);
    EXPECT_GE(plan->weight_bytes(), before);
    before = plan->weight_bytes();
  }
  EXPECT_LT(group.PlanForRank(16)->weight_bytes(), group.plan().weight_bytes() / 2);
}

TEST_F(RankPrefixTest, LowRankTermsBesideABlockEncodedOne) {
  FactoredMatrix m = RandomDense(&source_, "w", 64, 128, kInt4, 1);
  m.terms.push_back(RandomSvd(&source_, "lr", 64, 128, 40, kBf16, 10).terms[0]);
  m.sorted_leg = "r";
  const LinearGroup group =
      Load({m}, {.weight_dtype = DType::kF32, .compute = DType::kF32, .int8_blocks = false});
  const auto plan = group.PlanForRank(16);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ExpectMatches(group, 3, F32Roundoff(300), &*plan, 16);
}

TEST_F(RankPrefixTest, BlockEncodedFactorsTakeWholeChunksOfTheSummedRank) {
  const FactoredMatrix m = RandomSvd(&source_, "w", 1100, 1200, 656, kInt4, 1);
  const LinearGroup group =
      Load({m}, {.weight_dtype = DType::kF32, .compute = DType::kF32, .int8_blocks = false});
  EXPECT_THAT(ErrorOf(group, 256), HasSubstr("w: rank 256 does not end at a chunk of 512"));
  const auto plan = group.PlanForRank(512);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ExpectMatches(group, 2, F32Roundoff(1800), &*plan, 512);
}

TEST_F(RankPrefixTest, RefusesByName) {
  const LinearGroup svd = Load({RandomSvd(&source_, "a", 200, 240, 48, kBf16, 1)});
  EXPECT_THAT(ErrorOf(svd, 0), HasSubstr("a: rank 0 is not a multiple of 16"));
  EXPECT_THAT(ErrorOf(svd, 24), HasSubstr("24"));
  const LinearGroup folded = Load({RandomSvd(&source_, "b", 32, 24, 20, kBf16, 1)});
  EXPECT_THAT(ErrorOf(folded, 16), HasSubstr("b: no prefix of its rank can be run"));
  FactoredMatrix mpo = RandomMpo(&source_, "c", {8, 8}, {8, 8}, 4, kBf16, 1);
  mpo.sorted_leg = "x1";
  EXPECT_THAT(ErrorOf(Load({mpo}), 16), HasSubstr("c: no prefix"));
}

}  // namespace
}  // namespace rankine
