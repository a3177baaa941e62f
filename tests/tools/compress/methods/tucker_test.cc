// The method `tucker`: modes from the heads, ranks, weighting, and what the engine makes of it.
#include "tools/compress/methods/tucker.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/encode/encoding_name.h"
#include "tests/runtime/factor/group_testing.h"
#include "tests/tools/compress/matrix_testing.h"
#include "tools/compress/dense_product.h"
#include "tools/compress/methods/tucker_ranks.h"
#include "tools/compress/tucker_decomposition.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;
using testing::IndependentMoments;
using testing::NormalMatrix;

const Encoding kF32 = Encoding::Float(DType::kF32);
constexpr AttentionHeads kOut{.count = 3, .dim = 8}, kIn{.count = 4, .dim = 8, .on_input = true};

struct Case {
  std::optional<AttentionHeads> heads;
  Budget budget;
  OptionValues options;
  const Moments* moments = nullptr;
  Encoding encoding = kF32;
};

absl::StatusOr<Factorization> Tuck(const Matrix64& w, Case c) {
  if (c.moments == nullptr && c.options.count("weighting") == 0) c.options["weighting"] = "none";
  const auto settings = MethodSettings::Create("tucker", kTuckerMethod.options, c.options);
  if (!settings.ok()) return settings.status();
  return FactorizeTucker({.name = "l",
                          .weight = &w,
                          .moments = c.moments,
                          .heads = c.heads,
                          .budget = c.budget,
                          .encoding = c.encoding,
                          .settings = &*settings});
}

Matrix64 Product(const Factorization& f) {
  return *DenseProduct(f.matrix, StoredTensorSource(f.tensors));
}

double Loss(const Matrix64& w, const Factorization& f, const Matrix64* h = nullptr) {
  const Matrix64 delta = Difference(w, Product(f));
  return h == nullptr ? SquaredNorm(delta) : SquaredWeightedNorm(delta, *h);
}

TEST(TuckerTest, StoresACoreAndAFactorOfEachMode) {
  const Matrix64 w = NormalMatrix(24, 32, 1);
  const auto out =
      Tuck(w, {.heads = kOut, .budget = {.bits = 1e9}, .options = {{"ranks", "2,5,9"}}});
  ASSERT_TRUE(out.ok()) << out.status();
  ASSERT_EQ(out->matrix.terms[0].cores.size(), 4u);
  EXPECT_EQ(SizeOfStored({&out->matrix, 1}, out->tensors).parameters,
            3 * 2 + 8 * 5 + 32 * 9 + 2 * 5 * 9);
  EXPECT_EQ(out->matrix.output_legs.size(), 2u);
  EXPECT_EQ(out->matrix.input_legs.size(), 1u);
  EXPECT_EQ(out->rank, 9);
  const auto in =
      Tuck(w, {.heads = kIn, .budget = {.bits = 1e9}, .options = {{"ranks", "10,2,6"}}});
  ASSERT_TRUE(in.ok()) << in.status();
  EXPECT_EQ(in->matrix.input_legs.size(), 2u);
  EXPECT_EQ(SizeOfStored({&in->matrix, 1}, in->tensors).parameters,
            24 * 10 + 4 * 2 + 8 * 6 + 10 * 2 * 6);
  // A mode of full rank has no factor.
  const auto full =
      Tuck(w, {.heads = kOut, .budget = {.bits = 1e9}, .options = {{"ranks", "3,8,9"}}});
  ASSERT_TRUE(full.ok()) << full.status();
  EXPECT_EQ(full->matrix.terms[0].cores.size(), 2u);
  const auto pair = Tuck(w, {.budget = {.bits = 1e9}, .options = {{"ranks", "6,6"}}});
  ASSERT_TRUE(pair.ok()) << pair.status();
  EXPECT_EQ(pair->matrix.terms[0].cores.size(), 3u);
  EXPECT_NEAR(Loss(w, *pair), SquaredNorm(Difference(w, ProductOf(*TruncatedSvd(w, 6)))),
              1e-5 * SquaredNorm(w));
}

TEST(TuckerTest, TwoWaysAreTheSvdOfThatBudget) {
  const Moments moments = IndependentMoments(32, 3);
  for (const int64_t rows : {24, 48}) {
    const Matrix64 w = NormalMatrix(rows, 32, 2);
    const Budget budget{.parameters = 0.6 * static_cast<double>(rows * 32)};
    const int64_t r = *RankWithin(budget, rows, 32, kF32);
    const auto f = Tuck(w, {.budget = budget, .moments = &moments});
    ASSERT_TRUE(f.ok()) << f.status();
    EXPECT_EQ(f->rank, r);
    const double best = SquaredWeightedNorm(
        Difference(w, ProductOf(*WeightedSvd(w, moments.second, r))), moments.second);
    EXPECT_NEAR(Loss(w, *f, &moments.second), best, 1e-4 * best);
  }
}

TEST(TuckerTest, RanksStayWithinTheBudgetAndFindTheStructure) {
  // Three heads that are multiples of one: rank 1 over the heads.
  Matrix64 w(24, 32);
  const Matrix64 head = NormalMatrix(8, 32, 4);
  for (int64_t i = 0; i < 24; ++i) {
    for (int64_t j = 0; j < 32; ++j) w(i, j) = (1 + i / 8) * head(i % 8, j);
  }
  const auto exact = Tuck(w, {.heads = kOut, .budget = {.parameters = 0.45 * 24 * 32}});
  ASSERT_TRUE(exact.ok()) << exact.status();
  EXPECT_LT(Loss(w, *exact), 1e-10 * SquaredNorm(w));
  for (const auto& heads : {kOut, kIn}) {
    const Matrix64 random = NormalMatrix(24, 32, 6);
    double before = 2 * SquaredNorm(random);
    for (const double keep : {0.1, 0.3, 0.6, 0.9}) {
      const auto f = Tuck(random, {.heads = heads, .budget = {.parameters = keep * 24 * 32}});
      ASSERT_TRUE(f.ok()) << f.status();
      EXPECT_LE(SizeOfStored({&f->matrix, 1}, f->tensors).parameters, keep * 24 * 32);
      EXPECT_LT(Loss(random, *f), before);
      before = Loss(random, *f);
    }
    const auto bits = Tuck(random, {.heads = heads,
                                    .budget = {.bits = 16 * 0.5 * 24 * 32},
                                    .encoding = Encoding::Float(DType::kBF16)});
    ASSERT_TRUE(bits.ok()) << bits.status();
    EXPECT_LE(SizeOfStored({&bits->matrix, 1}, bits->tensors).bits, 16 * 0.5 * 24 * 32);
  }
}

// The input mode in full has no factor: rank 2 of its 32 over the outputs' modes costs less so than
// any lower rank of the input that keeps as much.
TEST(TuckerTest, TheLargestModeMayStayInFull) {
  Matrix64 w(24, 32);
  const Matrix64 a = NormalMatrix(8, 4, 21), b = NormalMatrix(4, 3 * 32, 22);
  const Matrix64 heads = MatrixProduct(a, b);
  for (int64_t k = 0; k < 3; ++k) {
    for (int64_t d = 0; d < 8; ++d) {
      for (int64_t j = 0; j < 32; ++j) w(k * 8 + d, j) = heads(d, k * 32 + j);
    }
  }
  // Rank 4 of head_dim: 8 * 4 + 3 * 4 * 32 = 416 of 768; with rank 12 of the input 560.
  const auto f = Tuck(w, {.heads = kOut, .budget = {.parameters = 420}});
  ASSERT_TRUE(f.ok()) << f.status();
  EXPECT_LT(Loss(w, *f), 1e-10 * SquaredNorm(w));
  EXPECT_EQ(SizeOfStored({&f->matrix, 1}, f->tensors).parameters, 416);
}

// No other choice of ranks that fits keeps more, as the HOSVD's core tells.
TEST(TuckerTest, TheSearchEqualsTryingEveryPair) {
  for (uint64_t seed = 30; seed < 34; ++seed) {
    const Matrix64 w = NormalMatrix(24, 32, seed);
    const Tensor64 t({3, 8, 32}, w.values);
    const Budget budget{.parameters = 0.5 * 24 * 32};
    const auto settings =
        MethodSettings::Create("tucker", kTuckerMethod.options, {{"weighting", "none"}});
    const MethodInput input{
        .name = "l", .weight = &w, .budget = budget, .encoding = kF32, .settings = &*settings};
    const auto found = TuckerRanks(input, {t.extents, 2}, t);
    ASSERT_TRUE(found.ok()) << found.status();
    // What the core of the small modes' HOSVD keeps with the best basis of the large one.
    const auto kept = [&](const std::vector<int64_t>& ranks) {
      const auto small = Hosvd(t, std::vector<int64_t>{ranks[0], ranks[1], 32});
      const auto values = *SquaredSingularValues(Unfold(small->core, 2), nullptr);
      double sum = 0;
      for (int64_t k = 0; k < std::min<int64_t>(ranks[2], values.size()); ++k) sum += values[k];
      return sum;
    };
    double most = 0;
    for (int64_t a = 1; a <= 3; ++a) {
      for (int64_t b = 1; b <= 8; ++b) {
        for (int64_t c = 1; c <= 32; ++c) {
          const std::vector<int64_t> ranks{a, b, c};
          if (!CheckRanks(t.extents, ranks).ok()) continue;
          const int64_t numbers =
              a * b * c + (a < 3 ? 3 * a : 0) + (b < 8 ? 8 * b : 0) + (c < 32 ? 32 * c : 0);
          if (static_cast<double>(numbers) <= budget.parameters) most = std::max(most, kept(ranks));
        }
      }
    }
    EXPECT_NEAR(kept(*found), most, 1e-10 * most);
  }
}

TEST(TuckerTest, WeightingLowersTheErrorOnItsInputs) {
  const Matrix64 w = NormalMatrix(24, 32, 7);
  const Moments moments = IndependentMoments(32, 8);
  for (const auto& heads : {kOut, kIn}) {
    const Case c{.heads = heads, .budget = {.bits = 1e9}, .options = {{"ranks", "3,4,6"}}};
    Case full = c;
    full.moments = &moments;
    const auto a = Tuck(w, full), b = Tuck(w, c);
    ASSERT_TRUE(a.ok() && b.ok()) << a.status();
    EXPECT_LT(Loss(w, *a, &moments.second), Loss(w, *b, &moments.second));
    EXPECT_LT(Loss(w, *b), Loss(w, *a));
  }
}

TEST(TuckerTest, RankOneAndSingularMoments) {
  const Matrix64 w = NormalMatrix(24, 32, 9);
  Moments moments = IndependentMoments(32, 10);
  for (int64_t i = 0; i < 32; ++i) moments.second(i, 3) = moments.second(3, i) = 0;
  for (const auto& heads : {kOut, kIn}) {
    const auto f = Tuck(w, {.heads = heads, .budget = {.rank = 1}, .moments = &moments});
    ASSERT_TRUE(f.ok()) << f.status();
    EXPECT_EQ(f->rank, 1);
    EXPECT_TRUE(std::isfinite(Loss(w, *f)));
  }
}

TEST(TuckerTest, RefusesWhatCannotBe) {
  const Matrix64 w = NormalMatrix(24, 32, 11);
  const auto error = [&](const Case& c) { return std::string(Tuck(w, c).status().message()); };
  const Budget half{.parameters = 384};
  EXPECT_THAT(error({.budget = half, .options = {{"ways", "3"}}}), HasSubstr("no attention heads"));
  EXPECT_THAT(error({.budget = half, .options = {{"ways", "4"}}}),
              HasSubstr("--ways 4 is not one of: auto 2 3 (modes of a weight"));
  EXPECT_THAT(error({.heads = kOut, .budget = half, .options = {{"ranks", "4,2,2"}}}),
              HasSubstr("outside [1, 3]"));
  EXPECT_THAT(error({.heads = kOut, .budget = half, .options = {{"ranks", "2,x,2"}}}),
              HasSubstr("'x' is no rank"));
  EXPECT_THAT(error({.heads = kOut, .budget = half, .options = {{"ranks", "3,8,20"}}}),
              HasSubstr("more than the budget"));
  EXPECT_THAT(error({.budget = {.rank = 33}}), HasSubstr("[1, 32]"));
  EXPECT_THAT(error({.heads = kOut, .budget = {.parameters = 40}}), HasSubstr("below rank 1"));
  EXPECT_THAT(error({.budget = half, .options = {{"weighting", "full"}}}),
              HasSubstr("--weighting none"));
  EXPECT_THAT(error({.heads = kIn,
                     .budget = half,
                     .options = {{"ways", "3"}},
                     .encoding = *ParseEncoding("int4:g16")}),
              HasSubstr("block encodings cannot"));
  const auto dense = Tuck(w, {.heads = kOut, .budget = {.parameters = 24 * 32}});
  ASSERT_TRUE(dense.ok());
  EXPECT_TRUE(dense->matrix.terms.empty());
}

TEST(TuckerTest, HeadsComeFromTheConfig) {
  const ModelConfig config{.num_heads = 9, .num_kv_heads = 3, .head_dim = 64};
  const auto q = HeadsOf(config, "model.layers.0.self_attn.q_proj", 576, 576);
  ASSERT_TRUE(q);
  EXPECT_EQ(q->count, 9);
  EXPECT_FALSE(q->on_input);
  EXPECT_EQ(HeadsOf(config, "model.layers.0.self_attn.k_proj", 192, 576)->count, 3);
  EXPECT_TRUE(HeadsOf(config, "model.layers.0.self_attn.o_proj", 576, 576)->on_input);
  EXPECT_TRUE(HeadsOf(config, "encoder.layer.1.attention.output.dense", 576, 576)->on_input);
  EXPECT_FALSE(HeadsOf(config, "encoder.layer.1.output.dense", 576, 576));
  EXPECT_FALSE(HeadsOf(config, "model.layers.0.mlp.up_proj", 1536, 576));
  EXPECT_FALSE(HeadsOf(config, "model.layers.0.self_attn.q_proj", 575, 576));
}

class TuckerEngineTest : public GroupTest {};

TEST_F(TuckerEngineTest, RunsWhatIsStored) {
  const Matrix64 w = NormalMatrix(48, 64, 12);
  const Case cases[] = {{.heads = AttentionHeads{3, 16}, .options = {{"ranks", "2,9,14"}}},
                        {.heads = AttentionHeads{4, 16, true}, .options = {{"ranks", "20,3,10"}}},
                        {.options = {{"ranks", "11,11"}}},
                        {.options = {}},
                        {.heads = AttentionHeads{3, 16},
                         .options = {{"ranks", "2,9,14"}},
                         .encoding = *ParseEncoding("int8:g16")}};
  for (Case c : cases) {
    c.budget = {.parameters = 0.7 * 48 * 64};
    const auto f = Tuck(w, c);
    ASSERT_TRUE(f.ok()) << f.status();
    const StoredTensorSource source(f->tensors);
    const Matrix64 product = *DenseProduct(f->matrix, source);
    auto group = LinearGroup::Load(
        *device_, {&f->matrix, 1},
        {.weight_dtype = DType::kF32, .compute = DType::kF32, .int8_blocks = false}, source);
    ASSERT_TRUE(group.ok()) << group.status();
    const std::vector<float> x = RandomRows(3, 64);
    const std::vector<float> y = Run(*group, x, 3);
    for (int64_t t = 0; t < 3; ++t) {
      for (int64_t o = 0; o < 48; ++o) {
        double expected = 0, size = 0;
        for (int64_t i = 0; i < 64; ++i) {
          expected += product(o, i) * x[static_cast<size_t>(t * 64 + i)];
          size += std::abs(product(o, i) * x[static_cast<size_t>(t * 64 + i)]);
        }
        // Chains of at most 120 terms in f32; partial sums are up to ten times the products'.
        EXPECT_NEAR(y[static_cast<size_t>(t * group->output_columns() + o)], expected,
                    120 * 0x1p-24 * 10 * size);
      }
    }
  }
}

}  // namespace
}  // namespace rankine
