// The method `mpo`: shapes, budgets, what is stored, and what the engine makes of it.
#include "tools/compress/methods/mpo.h"

#include <cmath>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/encode/encoding_name.h"
#include "runtime/factor/contraction.h"
#include "tests/runtime/factor/group_testing.h"
#include "tests/tools/compress/matrix_testing.h"
#include "tools/compress/dense_product.h"
#include "tools/compress/mpo_decomposition.h"
#include "tools/compress/mpo_shape.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;
using testing::IndependentMoments;
using testing::NormalMatrix;

const Encoding kF32 = Encoding::Float(DType::kF32);

absl::StatusOr<Factorization> RunMpo(const Matrix64& w, Budget budget, OptionValues options,
                                     const Encoding& encoding = kF32,
                                     const Moments* moments = nullptr) {
  if (moments == nullptr) options["weighting"] = "none";
  const auto settings = MethodSettings::Create("mpo", kMpoMethod.options, options);
  if (!settings.ok()) return settings.status();
  return FactorizeMpo({.name = "l",
                       .weight = &w,
                       .moments = moments,
                       .budget = budget,
                       .encoding = encoding,
                       .settings = &*settings});
}

std::string Error(const Matrix64& w, const Budget& budget, const OptionValues& options,
                  const Encoding& encoding = kF32) {
  return std::string(RunMpo(w, budget, options, encoding).status().message());
}

Budget Keep(double keep, const Matrix64& w) {
  return {.parameters = keep * static_cast<double>(w.rows * w.cols)};
}

Matrix64 Product(const Factorization& f) {
  return *DenseProduct(f.matrix, StoredTensorSource(f.tensors));
}

// Rounds three cores to f32 at most, whose products do not cancel.
constexpr double kF32Tolerance = 1e-6;

TEST(MpoTest, StoresTheCoresOfTheSweep) {
  const Matrix64 w = NormalMatrix(24, 36, 1);
  for (const auto& [shape, bond] : std::vector<std::pair<std::string, int64_t>>{
           {"4x6,6x6", 9}, {"2x3,3x4,4x3", 8}, {"2x3,3x2,2x2,2x3", 5}, {"24x1,1x36", 7}}) {
    SCOPED_TRACE(shape);
    const auto f = RunMpo(w, {.rank = bond}, {{"shape", shape}});
    ASSERT_TRUE(f.ok()) << f.status();
    const MpoShape sites = *ParseMpoShape(shape, 24, 36);
    const auto train = DecomposeMpo(w, sites, bond);
    const Matrix64 expected = MpoProduct(train->cores, sites);
    EXPECT_LT(SquaredNorm(Difference(Product(*f), expected)),
              kF32Tolerance * kF32Tolerance * SquaredNorm(expected));
    EXPECT_EQ(SizeOfStored({&f->matrix, 1}, f->tensors).parameters, MpoParameters(sites, bond));
    EXPECT_EQ(f->rank, bond);
  }
}

TEST(MpoTest, SitesOfOneOutputOrInputAreTheSvd) {
  const Matrix64 w = NormalMatrix(20, 12, 2);
  const auto f = RunMpo(w, {.rank = 4}, {{"shape", "20x1,1x12"}});
  ASSERT_TRUE(f.ok()) << f.status();
  EXPECT_LT(SquaredNorm(Difference(Product(*f), ProductOf(*TruncatedSvd(w, 4)))),
            1e-12 * SquaredNorm(w));
}

TEST(MpoTest, BitsAndOperationsAreThoseOfWhatIsStored) {
  const Matrix64 w = NormalMatrix(64, 96, 3);
  for (const char* name : {"f32", "bf16", "int4:g16", "int8:g32"}) {
    const Encoding encoding = *ParseEncoding(name);
    const auto f = RunMpo(w, {.rank = 32}, {{"shape", "16x2,4x48"}}, encoding);
    ASSERT_TRUE(f.ok()) << name << f.status();
    const MpoShape shape = *ParseMpoShape("16x2,4x48", 64, 96);
    EXPECT_EQ(SizeOfStored({&f->matrix, 1}, f->tensors).bits, MpoBits(shape, 32, encoding)) << name;
    const auto orders = EnumerateOrders(f->matrix, f->matrix.terms[0]);
    ASSERT_TRUE(orders.ok());
    EXPECT_EQ((*orders)[0].multiply_adds_per_token(), MpoOperations(shape, 32));
  }
}

TEST(MpoTest, TheBudgetDecidesTheBond) {
  const Matrix64 w = NormalMatrix(24, 36, 4);
  for (const int sites : {2, 3}) {
    for (const double keep : {0.9, 0.6, 0.3}) {
      const auto f =
          RunMpo(w, Keep(keep, w), {{"sites", std::to_string(sites)}, {"max-operations", "100"}});
      ASSERT_TRUE(f.ok()) << f.status();
      MpoShape shape;
      for (size_t k = 0; k < f->matrix.output_legs.size(); ++k) {
        shape.push_back({f->matrix.output_legs[k].extent, f->matrix.input_legs[k].extent});
      }
      ASSERT_EQ(shape.size(), static_cast<size_t>(sites));
      const double budget = keep * 24 * 36;
      EXPECT_LE(static_cast<double>(MpoParameters(shape, f->rank)), budget);
      EXPECT_GT(static_cast<double>(MpoParameters(shape, f->rank + 1)), budget);
    }
  }
  const auto bits = RunMpo(w, {.bits = 16 * 0.5 * 24 * 36}, {}, *ParseEncoding("bf16"));
  ASSERT_TRUE(bits.ok()) << bits.status();
  EXPECT_LE(SizeOfStored({&bits->matrix, 1}, bits->tensors).bits, 16 * 0.5 * 24 * 36);
}

// The searched shape is no worse than others of the same search, at the same share.
TEST(MpoTest, TheSearchFindsTheSplitThatTheWeightsHave) {
  // Of rank 2 over (3x2 | 8x18), of full rank over other splits.
  const MpoShape shape = *ParseMpoShape("12x2,2x18", 24, 36);
  Tensor64 t({24, 36});
  const Matrix64 a = NormalMatrix(24, 2, 5), b = NormalMatrix(2, 36, 6);
  t.values = MatrixProduct(a, b).values;
  const Matrix64 w = FromSites(t, shape);
  const auto f = RunMpo(w, Keep(0.2, w), {});
  ASSERT_TRUE(f.ok()) << f.status();
  EXPECT_LT(SquaredNorm(Difference(Product(*f), w)), 1e-10 * SquaredNorm(w));
}

TEST(MpoTest, WeightingLowersTheErrorOnItsInputs) {
  const Matrix64 w = NormalMatrix(24, 36, 7);
  const Moments moments = IndependentMoments(36, 8);
  const auto plain = RunMpo(w, Keep(0.6, w), {}),
             full = RunMpo(w, Keep(0.6, w), {}, kF32, &moments);
  ASSERT_TRUE(plain.ok() && full.ok()) << full.status();
  EXPECT_LT(SquaredWeightedNorm(Difference(w, Product(*full)), moments.second),
            0.9 * SquaredWeightedNorm(Difference(w, Product(*plain)), moments.second));
}

TEST(MpoTest, RefusesFitsThatAreTooLarge) {
  const Matrix64 w = NormalMatrix(128, 128, 13);
  const Moments moments = IndependentMoments(128, 14);
  const auto refused = RunMpo(w, {.rank = 128}, {{"shape", "1x128,128x1"}}, kF32, &moments);
  EXPECT_THAT(std::string(refused.status().message()),
              HasSubstr("16384 unknowns, more than 8192; use --weighting none"));
}

TEST(MpoTest, RefusesWhatCannotBe) {
  const Matrix64 prime = NormalMatrix(23, 36, 9), w = NormalMatrix(24, 36, 10);
  EXPECT_THAT(Error(prime, Keep(0.5, prime), {}),
              HasSubstr("23 x 36 matrix does not split into 2"));
  EXPECT_THAT(Error(NormalMatrix(4, 36, 9), {.parameters = 100}, {{"sites", "3"}}),
              HasSubstr("does not split into 3"));
  EXPECT_THAT(Error(w, Keep(0.5, w), {{"sites", "5"}}), HasSubstr("--sites 5"));
  EXPECT_THAT(Error(w, Keep(0.5, w), {{"shape", "4x6,6x7"}}), HasSubstr("multiply to 24 x 42"));
  EXPECT_THAT(Error(w, Keep(0.5, w), {{"shape", "24x36"}}), HasSubstr("1 sites"));
  EXPECT_THAT(Error(w, Keep(0.5, w), {{"shape", "4*6,6x6"}}), HasSubstr("'4*6' is no site"));
  EXPECT_THAT(Error(w, {.rank = 25}, {{"shape", "4x6,6x6"}}), HasSubstr("[1, 24]"));
  EXPECT_THAT(Error(w, Keep(0.99, w), {{"shape", "4x6,6x6"}, {"bond", "25"}}),
              HasSubstr("[1, 24]"));
  EXPECT_THAT(Error(w, Keep(0.2, w), {{"shape", "4x6,6x6"}, {"bond", "20"}}),
              HasSubstr("more than the budget"));
  EXPECT_THAT(Error(w, {.parameters = 59}, {{"shape", "4x6,6x6"}}), HasSubstr("60 numbers"));
  EXPECT_THAT(Error(w, {.parameters = 10}, {}), HasSubstr("below bond 1"));
  // Of all shapes that are refused, the one that comes nearest is named.
  EXPECT_THAT(
      Error(NormalMatrix(32, 32, 15), {.bits = 4.5 * 32 * 32}, {}, *ParseEncoding("int4:g16")),
      HasSubstr("the budget is below bond 16 of "));
  EXPECT_THAT(Error(w, Keep(0.5, w), {{"max-operations", "0.1"}}),
              HasSubstr("raise --max-operations"));
  EXPECT_THAT(Error(w, Keep(0.5, w), {}, *ParseEncoding("int4:row")), HasSubstr("a group"));
  const auto unweighted = MethodSettings::Create("mpo", kMpoMethod.options, {});
  EXPECT_THAT(std::string(FactorizeMpo({.name = "l",
                                        .weight = &w,
                                        .budget = Keep(0.5, w),
                                        .encoding = kF32,
                                        .settings = &*unweighted})
                              .status()
                              .message()),
              HasSubstr("--weighting none"));
}

TEST(MpoTest, BondOneAndABudgetAboveDense) {
  const Matrix64 w = NormalMatrix(24, 36, 11);
  const auto one = RunMpo(w, Keep(0.9, w), {{"shape", "4x6,6x6"}, {"bond", "1"}});
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(one->rank, 1);
  const auto dense = RunMpo(w, {.parameters = 24 * 36}, {});
  ASSERT_TRUE(dense.ok()) << dense.status();
  EXPECT_TRUE(dense->matrix.terms.empty());
}

// The engine runs the cores as they are stored, floats and blocks, without memory beyond them.
class MpoEngineTest : public GroupTest {};

TEST_F(MpoEngineTest, RunsWhatIsStored) {
  const Matrix64 w = NormalMatrix(64, 96, 12);
  const std::pair<const char*, OptionValues> cases[] = {
      {"f32", {}},
      {"bf16", {{"sites", "3"}, {"max-operations", "20"}}},
      {"int8:g16", {{"shape", "16x2,4x48"}}},
      {"int4:g16", {{"shape", "16x2,4x48"}}},
      {"int8:g16", {{"shape", "8x4,4x4,2x6"}, {"bond", "12"}}}};
  for (const auto& [name, options] : cases) {
    SCOPED_TRACE(name);
    const Encoding encoding = *ParseEncoding(name);
    const auto f = RunMpo(w, Keep(0.7, w), options, encoding);
    if (options.count("bond") != 0) {
      EXPECT_THAT(std::string(f.status().message()), HasSubstr("no multiple of"));
      continue;
    }
    ASSERT_TRUE(f.ok()) << f.status();
    const StoredTensorSource source(f->tensors);
    const Matrix64 product = *DenseProduct(f->matrix, source);
    auto group = LinearGroup::Load(
        *device_, {&f->matrix, 1},
        {.weight_dtype = DType::kF32, .compute = DType::kF32, .int8_blocks = false}, source);
    ASSERT_TRUE(group.ok()) << group.status();
    const std::vector<float> x = RandomRows(3, 96);
    const std::vector<float> y = Run(*group, x, 3);
    for (int64_t t = 0; t < 3; ++t) {
      for (int64_t o = 0; o < 64; ++o) {
        double expected = 0, size = 0;
        for (int64_t i = 0; i < 96; ++i) {
          expected += product(o, i) * x[t * 96 + i];
          size += std::abs(product(o, i) * x[t * 96 + i]);
        }
        // Chains of at most 200 terms in f32; partial sums are up to ten times the products'.
        EXPECT_NEAR(y[t * group->output_columns() + o], expected, 200 * 0x1p-24 * 10 * size);
      }
    }
  }
}

}  // namespace
}  // namespace rankine
