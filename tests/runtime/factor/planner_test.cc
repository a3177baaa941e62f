#include "runtime/factor/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
  EXPECT_EQ(choice.choice().form, ExecutableForm::kTwoFactors);
  EXPECT_EQ(choice.choice().order.expression, "((x V) S) U");
}

TEST(PlannerTest, MaterialisesDenseWhereFactorsHoldMoreNumbers) {
  // Above rank mn / (m + n) = 2048 the factors are larger than the matrix.
  const MatrixChoice choice = PlanOne(SvdMatrix("w", 4096, 4096, 2500, kBf16));
  EXPECT_EQ(choice.choice().form, ExecutableForm::kDense);
}

TEST(PlannerTest, SpendsNoMoreMemoryThanAllowed) {
  // So small that two steps cost more than the bytes saved: dense is faster, but larger.
  const FactoredMatrix m = SvdMatrix("w", 64, 64, 16, kBf16);
  const MatrixChoice strict = PlanOne(m);
  EXPECT_EQ(strict.choice().form, ExecutableForm::kTwoFactors);
  bool said = false;
  for (const Candidate& c : strict.candidates)
    said |= c.rejected.find("--extra-weight-bytes") != std::string::npos;
  EXPECT_TRUE(said);
  const MatrixChoice allowed = PlanOne(m, {.extra_weight_bytes = 64 * 64 * 2});
  EXPECT_EQ(allowed.choice().form, ExecutableForm::kDense);
}

TEST(PlannerTest, KeepsTheStoredCoresOnATie) {
  // Folding S away would save 4 bytes in 7000.
  const MatrixChoice choice =
      PlanOne(SvdMatrix("w", 1500, 2000, 300, Encoding::Float(DType::kF32)));
  EXPECT_EQ(choice.choice().order.num_foldings, 0);
}

TEST(PlannerTest, PricesAGroupTogether) {
  // Alone, the third would rather be dense (one step); beside two that need two steps anyway it
  // gains by its factors.
  const std::vector<FactoredMatrix> group = {SvdMatrix("q", 2048, 2048, 256, kBf16),
                                             SvdMatrix("k", 256, 2048, 128, kBf16)};
  auto choices = PlanGroup(group, {.extra_weight_bytes = int64_t{1} << 30});
  ASSERT_TRUE(choices.ok());
  EXPECT_EQ((*choices)[0].choice().form, ExecutableForm::kTwoFactors);
  EXPECT_EQ((*choices)[1].choice().form, ExecutableForm::kTwoFactors);
}

std::string ErrorOf(const FactoredMatrix& m) {
  auto choices = PlanGroup({&m, 1}, {});
  EXPECT_EQ(choices.status().code(), absl::StatusCode::kUnimplemented);
  return std::string(choices.status().message());
}

TEST(PlannerTest, RefusesByNameWhatItCannotExecute) {
  FactoredMatrix two_terms = SvdMatrix("model.a", 8, 8, 2, kBf16);
  two_terms.terms.push_back(two_terms.terms[0]);
  EXPECT_THAT(ErrorOf(two_terms),
              HasSubstr("model.a: this version can't execute a sum of 2 terms"));

  FactoredMatrix transformed = SvdMatrix("model.b", 8, 8, 2, kBf16);
  transformed.input_transforms.push_back({.tensor = "p"});
  EXPECT_THAT(ErrorOf(transformed), HasSubstr("transforms"));

  FactoredMatrix quantised =
      DenseMatrix("model.c", 8, 8, {.kind = EncodingKind::kAffine, .bits = 4, .group = 32}, "w");
  EXPECT_THAT(ErrorOf(quantised), HasSubstr("encoding"));

  FactoredMatrix tucker = SvdMatrix("model.d", 8, 8, 2, kBf16);
  tucker.terms[0].cores[1].legs = {{"r", 0, 2}, {"s", 0, 2}};
  tucker.terms[0].cores[2].legs[0].name = "s";
  EXPECT_THAT(ErrorOf(tucker), HasSubstr("3 cores"));

  FactoredMatrix shared = SvdMatrix("model.e", 8, 8, 2, kBf16);
  shared.terms[0].cores[0].legs[0].offset = 8;
  EXPECT_THAT(ErrorOf(shared), HasSubstr("ranges"));
}

// The loader reads whole rows of the stored tensor: a wider one would not fit its buffers.
TEST(PlannerTest, RefusesCoresThatAreAPartOfAWiderTensor) {
  const FactoredMatrix whole = SvdMatrix("model.wide", 8, 8, 2, kBf16);
  for (size_t core = 0; core < 3; ++core) {
    for (size_t leg = 0; leg < whole.terms[0].cores[core].legs.size(); ++leg) {
      FactoredMatrix wide = whole;
      LegRange& range = wide.terms[0].cores[core].legs[leg];
      range.stored_extent = range.extent;
      EXPECT_TRUE(PlanGroup({&wide, 1}, {}).ok());
      range.stored_extent = range.extent + 8;
      EXPECT_THAT(ErrorOf(wide), HasSubstr("model.wide: this version can't execute cores shared"))
          << "core " << core << ", leg " << leg;
    }
  }
}

TEST(PlannerTest, RefusesADenseCoreThatIsNotOutputByInput) {
  FactoredMatrix transposed = DenseMatrix("model.t", 16, 8, kBf16, "w");
  std::swap(transposed.terms[0].cores[0].legs[0], transposed.terms[0].cores[0].legs[1]);
  EXPECT_THAT(ErrorOf(transposed), HasSubstr("model.t: this version can't execute a dense core"));

  FactoredMatrix split = DenseMatrix("model.s", 16, 8, kBf16, "w");
  split.output_legs = {{"o1", 2}, {"o2", 8}};
  split.terms[0].cores[0].legs = {{"o1", 0, 2}, {"o2", 0, 8}, {"i", 0, 8}};
  EXPECT_THAT(ErrorOf(split), HasSubstr("a dense core with legs [o1, o2, i]"));
}

}  // namespace
}  // namespace rankine
