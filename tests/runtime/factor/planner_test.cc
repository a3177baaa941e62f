#include "runtime/factor/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/network_testing.h"

namespace rankine {
namespace {

using testing::HasSubstr;

constexpr Encoding kBf16 = Encoding::Float(DType::kBF16);

MatrixChoice PlanOne(const FactoredMatrix& m, const PlannerOptions& options = {}) {
  auto choices = PlanGroup({&m, 1}, options);
  EXPECT_TRUE(choices.ok()) << choices.status();
  return std::move((*choices)[0]);
}

TEST(PlannerTest, RunsFactorsWhereTheyAreSmaller) {
  const MatrixChoice choice = PlanOne(SvdMatrix("w", 4096, 4096, 1024, kBf16));
  EXPECT_FALSE(choice.is_dense);
  EXPECT_EQ(choice.terms[0].choice().order.expression, "((x V) S) U");
}

TEST(PlannerTest, MaterialisesDenseWhereFactorsHoldMoreNumbers) {
  // Above rank mn / (m + n) = 2048 the factors are larger than the matrix.
  const MatrixChoice choice = PlanOne(SvdMatrix("w", 4096, 4096, 2500, kBf16));
  EXPECT_TRUE(choice.is_dense);
}

TEST(PlannerTest, SpendsNoMoreMemoryThanAllowed) {
  // So small that two steps cost more than the bytes saved: dense is faster, but larger.
  const FactoredMatrix m = SvdMatrix("w", 64, 64, 16, kBf16);
  const MatrixChoice strict = PlanOne(m);
  EXPECT_FALSE(strict.is_dense);
  bool said = false;
  for (const Candidate& c : strict.terms[0].candidates)
    said |= c.rejected.find("--extra-weight-bytes") != std::string::npos;
  EXPECT_TRUE(said);
  const MatrixChoice allowed = PlanOne(m, {.extra_weight_bytes = 64 * 64 * 2});
  EXPECT_TRUE(allowed.is_dense);
}

TEST(PlannerTest, KeepsTheStoredCoresOnATie) {
  // Folding S away would save 4 bytes in 7000.
  const MatrixChoice choice =
      PlanOne(SvdMatrix("w", 1500, 2000, 300, Encoding::Float(DType::kF32)));
  EXPECT_EQ(choice.terms[0].choice().order.num_foldings, 0);
}

TEST(PlannerTest, TakesTheOrdersThatItIsGiven) {
  const FactoredMatrix m = SvdMatrix("w", 4096, 4096, 1024, kBf16);
  const MatrixChoice choice = PlanOne(m, {.orders = {"(x V) [U S]"}});
  EXPECT_EQ(choice.terms[0].choice().order.expression, "(x V) [U S]");
  for (const std::vector<std::string>& orders :
       {std::vector<std::string>{"(x W)"}, {"x [U S V]"}, {"((x V) S) U", "((x V) S) U"}}) {
    auto choices = PlanGroup({&m, 1}, {.orders = orders});
    EXPECT_TRUE(absl::IsInvalidArgument(choices.status())) << orders[0];
  }
}

TEST(PlannerTest, PricesAGroupTogether) {
  // Alone, the third would rather be dense (one step); beside two that need two steps anyway it
  // gains by its factors.
  const std::vector<FactoredMatrix> group = {SvdMatrix("q", 2048, 2048, 256, kBf16),
                                             SvdMatrix("k", 256, 2048, 128, kBf16)};
  auto choices = PlanGroup(group, {.extra_weight_bytes = int64_t{1} << 30});
  ASSERT_TRUE(choices.ok());
  EXPECT_FALSE((*choices)[0].is_dense);
  EXPECT_FALSE((*choices)[1].is_dense);
}

const Candidate& Find(const MatrixChoice& choice, const std::string& expression) {
  for (const Candidate& c : choice.terms[0].candidates) {
    if (c.order.expression == expression) return c;
  }
  ADD_FAILURE() << expression;
  return choice.terms[0].candidates[0];
}

FactoredMatrix Mpo(const std::vector<int64_t>& out, const std::vector<int64_t>& in, int64_t bond) {
  MemorySource unused;
  return RandomMpo(&unused, "w", out, in, bond, kBf16, 1);
}

TEST(PlannerTest, ChainsTheSitesOfAnMpoWithoutAPassThatTransposes) {
  const MatrixChoice choice = PlanOne(Mpo({8, 8, 8}, {8, 8, 8}, 4));
  const Candidate& right_to_left = Find(choice, "((x C3) C2) C1");
  EXPECT_EQ(right_to_left.rejected, "");
  EXPECT_EQ(right_to_left.num_steps, 3);
  EXPECT_EQ(right_to_left.lowering.num_gathers(), 0);
  // Rows (i1 i2), columns (o3 x2): what the next step sums stays innermost.
  const LoweredStep& first = right_to_left.lowering.steps[0];
  EXPECT_EQ(first.rows, 64);
  EXPECT_EQ(first.n, 32);
  EXPECT_EQ(first.run, 4);
  // The other way round the input's first leg is summed first, which a gather must bring inside.
  const Candidate& left_to_right = Find(choice, "((x C1) C2) C3");
  EXPECT_EQ(left_to_right.rejected, "");
  EXPECT_GT(left_to_right.lowering.num_gathers(), 0);
  EXPECT_GT(left_to_right.decode_microseconds, right_to_left.decode_microseconds);
  EXPECT_EQ(choice.terms[0].choice().order.expression, "((x C3) C2) C1");
}

TEST(PlannerTest, FoldsTwoCoresOfAnMpoWhereTheBytesAllow) {
  // Three 16 x 16 sites at bond 100 need 40 times the operations of the dense matrix; folded, 13.
  const FactoredMatrix m = Mpo({16, 16, 16}, {16, 16, 16}, 100);
  const MatrixChoice strict = PlanOne(m, {.compute = DType::kBF16, .weight_dtype = DType::kBF16});
  EXPECT_EQ(strict.terms[0].choice().order.num_foldings, 0);
  const MatrixChoice allowed = PlanOne(m, {.compute = DType::kBF16,
                                           .weight_dtype = DType::kBF16,
                                           .extra_weight_bytes = int64_t{16} << 20});
  EXPECT_GT(allowed.terms[0].choice().order.num_foldings, 0);
  EXPECT_LT(allowed.terms[0].choice().decode_microseconds,
            strict.terms[0].choice().decode_microseconds);
}

TEST(PlannerTest, SaysWhyAnOrderCannotRun) {
  const MatrixChoice choice = PlanOne(SvdMatrix("w", 64, 64, 16, kBf16));
  EXPECT_THAT(Find(choice, "((x V) U) S").rejected, HasSubstr("leg r stays on both sides"));
  EXPECT_THAT(Find(choice, "((x U) S) V").rejected, HasSubstr("outer product"));
  EXPECT_THAT(Find(choice, "((x S) V) U").rejected, HasSubstr("outer product"));
  EXPECT_EQ(Find(choice, "(x V) [U S]").rejected, "");
}

constexpr Encoding kInt4 = {.kind = EncodingKind::kAffine, .bits = 4, .group = 32};

TEST(PlannerTest, BlocksRunAsTheyLieOrAreRefusedForTheirBytes) {
  FactoredMatrix m = DenseMatrix("w", 64, 128, kInt4, "w");
  EXPECT_TRUE(PlanOne(m).terms[0].choice().lowering.steps[0].block_encoded);
  // Blocks run along the output: only floats can be summed over the input.
  std::swap(m.terms[0].cores[0].legs[0], m.terms[0].cores[0].legs[1]);
  auto refused = PlanGroup({&m, 1}, {});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(refused.status().message()),
              testing::AllOf(HasSubstr("w: "), HasSubstr("hold core W as floats")));
  const MatrixChoice allowed = PlanOne(m, {.extra_weight_bytes = 1 << 20});
  EXPECT_FALSE(allowed.terms[0].choice().lowering.steps[0].block_encoded);
}

TEST(PlannerTest, BlocksOverTwoSummedLegsNeedWholeGroups) {
  for (const int64_t bond : {32, 24}) {
    FactoredMatrix m = Mpo({32, 8}, {16, 64}, bond);
    m.terms[0].cores[0].encoding = kInt4;  // C1[o1, i1, x] sums (i1, x)
    m.terms[0].cores[0].tensors = {{"codes", "c"}};
    const auto choices = PlanGroup({&m, 1}, {});
    EXPECT_EQ(choices.ok(), bond == 32) << choices.status();
    if (choices.ok()) {
      EXPECT_TRUE((*choices)[0].terms[0].choice().lowering.steps[1].block_encoded);
    }
  }
}

TEST(PlannerTest, TermsArePlannedSideBySide) {
  FactoredMatrix m = DenseMatrix("w", 512, 512, kInt4, "w");
  m.terms.push_back(SvdMatrix("lr", 512, 512, 32, kBf16).terms[0]);
  EXPECT_EQ(PlanOne(m).expression(), "x W + ((x V) S) U");
}

TEST(PlannerTest, RefusesMoreCoresThanItSearches) {
  FactoredMatrix m = Mpo({2, 2, 2, 2, 2, 2, 2}, {2, 2, 2, 2, 2, 2, 2}, 2);
  auto choices = PlanGroup({&m, 1}, {});
  EXPECT_EQ(choices.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(choices.status().message()), HasSubstr("w: a term of 7 cores"));
}

}  // namespace
}  // namespace rankine
