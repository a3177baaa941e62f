#include "tools/compress/methods/method.h"
#include "tools/compress/dense_product.h"
#include "tools/compress/methods/store.h"

#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;

Matrix64 RandomMatrix(int64_t rows, int64_t cols, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  Matrix64 a(rows, cols);
  for (double& v : a.values) v = normal(random);
  return a;
}

Moments RandomMoments(int64_t n, int64_t tokens, uint64_t seed) {
  const Matrix64 x = RandomMatrix(n, tokens, seed);
  Moments moments{.tokens = tokens, .second = Matrix64(n, n)};
  moments.mean.resize(n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      for (int64_t t = 0; t < tokens; ++t) moments.second(i, j) += x(i, t) * x(j, t) / tokens;
  return moments;
}

absl::StatusOr<Factorization> RunByName(const char* method, const MethodInput& input) {
  return (*FindMethod(method))->factorize(input);
}

// A budget of a share of w's parameters.
Budget Keep(double keep, const Matrix64& w) {
  return {.parameters = keep * static_cast<double>(w.rows * w.cols)};
}

Matrix64 Product(const Factorization& f) {
  return *DenseProduct(f.matrix, StoredTensorSource(f.tensors));
}

TEST(MethodTest, KeepIsAShareOfParameters) {
  for (const auto& [m, n] : std::vector<std::pair<int64_t, int64_t>>{
           {576, 576}, {192, 576}, {1536, 576}, {576, 1536}, {7, 5}}) {
    for (double keep : {0.05, 0.3, 0.6, 0.8, 0.9, 0.999}) {
      const int64_t r = RankFromKeep(keep, m, n);
      EXPECT_TRUE(r <= 1 || r * (m + n) <= keep * m * n);
      EXPECT_GT((r + 1) * (m + n), keep * m * n);
      EXPECT_LT(r * (m + n), m * n);
    }
    EXPECT_EQ(RankFromKeep(1.0, m, n), 0) << "all parameters kept is the dense matrix";
  }
  EXPECT_EQ(RankFromKeep(0.8, 576, 576), 230);
  EXPECT_EQ(RankFromKeep(1e-9, 100, 100), 1);
  EXPECT_EQ(RankFromKeep(0.9, 1, 50), 0) << "no rank is smaller than one row";
}

TEST(MethodTest, RanksStayWithinTheirBudget) {
  const Encoding bf16 = Encoding::Float(DType::kBF16);
  for (const auto& [m, n] :
       std::vector<std::pair<int64_t, int64_t>>{{576, 192}, {40, 96}, {7, 5}}) {
    for (const double share : {0.3, 0.5, 0.77, 0.95}) {
      const double parameters = share * static_cast<double>(m * n);
      const auto r = RankWithin({.parameters = parameters}, m, n, bf16);
      ASSERT_EQ(r.ok(), parameters >= static_cast<double>(m + n)) << r.status();
      if (r.ok()) {
        EXPECT_EQ(*r, RankFromKeep(share, m, n));
      }
      const auto with_bias = RankWithin({.parameters = parameters}, m, n, bf16, /*extra=*/m);
      if (with_bias.ok()) {
        EXPECT_LE(*with_bias * (m + n) + m, parameters);
      }
      const double bits = share * 16 * static_cast<double>(m * n);
      const auto by_bits = RankWithin({.bits = bits}, m, n, bf16);
      if (by_bits.ok() && *by_bits > 0) {
        EXPECT_LE(16 * *by_bits * (m + n) + 32 * *by_bits, bits);
        EXPECT_GT(16 * (*by_bits + 1) * (m + n) + 32 * (*by_bits + 1), bits);
      }
    }
  }
  EXPECT_EQ(*RankWithin({.parameters = 0.9 * 576 * 576, .rank_multiple = 16}, 576, 576, bf16), 256);
  EXPECT_EQ(*RankWithin({.parameters = 576 * 576}, 576, 576, bf16), 0) << "dense";
  EXPECT_EQ(*RankWithin({.bits = 32 * 576 * 576}, 576, 576, bf16), 287) << "smaller than dense";
  EXPECT_EQ(*RankWithin({.rank = 576}, 576, 576, bf16), 576) << "as asked";
}

TEST(MethodTest, RefusesBudgetsBelowASliceAndRanksOutOfRange) {
  const Encoding bf16 = Encoding::Float(DType::kBF16);
  EXPECT_THAT(std::string(RankWithin({.parameters = 15}, 9, 7, bf16).status().message()),
              HasSubstr("16 numbers"));
  EXPECT_THAT(std::string(RankWithin({.bits = 100}, 9, 7, bf16).status().message()),
              HasSubstr("288 bits"));
  for (const int64_t rank : {-1, 8}) {
    EXPECT_THAT(std::string(RankWithin({.rank = rank}, 9, 7, bf16).status().message()),
                HasSubstr("[1, 7]"));
  }
}

TEST(MethodTest, OptionsAreCheckedByName) {
  static constexpr MethodOption kOptions[] = {
      {.name = "alpha", .default_value = "0.5", .min = 0, .max = 1},
      {.name = "sites",
       .kind = MethodOption::Kind::kInteger,
       .default_value = "2",
       .min = 2,
       .max = 4},
      {.name = "base-encode", .kind = MethodOption::Kind::kEncoding, .default_value = "int4:g64"}};
  const auto settings = MethodSettings::Create("m", kOptions, {{"sites", "3"}});
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->Number("alpha"), 0.5);
  EXPECT_EQ(settings->Integer("sites"), 3);
  EXPECT_EQ(settings->EncodingOf("base-encode").bits, 4);
  const std::pair<const char*, const char*> bad[] = {{"alpha", "1.5"},
                                                     {"alpha", "nan"},
                                                     {"alpha", "x"},
                                                     {"sites", "2.5"},
                                                     {"base-encode", "int9"}};
  for (const auto& [name, value] : bad) {
    EXPECT_THAT(
        std::string(MethodSettings::Create("m", kOptions, {{name, value}}).status().message()),
        HasSubstr(std::string("--") + name));
  }
  EXPECT_THAT(
      std::string(MethodSettings::Create("m", kOptions, {{"bond", "4"}}).status().message()),
      HasSubstr("method m has no option --bond"));
}

TEST(MethodTest, FactorsInBlocks) {
  const Matrix64 w = RandomMatrix(32, 64, 9);
  const auto f =
      RunByName("svd", {.name = "l",
                        .weight = &w,
                        .budget = {.rank = 16},
                        .encoding = {.kind = EncodingKind::kAffine, .bits = 8, .group = 32}});
  ASSERT_TRUE(f.ok()) << f.status();
  EXPECT_EQ(f->tensors.size(), 5u);  // codes and scales of U and V, and S
  const Matrix64 exact = ProductOf(*TruncatedSvd(w, 16));
  const double moved = SquaredNorm(Difference(Product(*f), exact)) / SquaredNorm(exact);
  EXPECT_GT(moved, 0);
  EXPECT_LT(moved, 1e-3);
}

TEST(MethodTest, TableIsKnownByName) {
  ASSERT_TRUE(FindMethod("svd").ok());
  EXPECT_FALSE((*FindMethod("svd"))->needs_calibration);
  EXPECT_TRUE((*FindMethod("svd-llm"))->needs_calibration);
  EXPECT_THAT(std::string(FindMethod("tt").status().message()), HasSubstr("svd, svd-llm"));
}

TEST(MethodTest, FactorsDescribeThemselves) {
  const Matrix64 w = RandomMatrix(12, 20, 1);
  const auto f = RunByName(
      "svd", {.name = "l", .weight = &w, .bias_tensor = "l.bias", .budget = Keep(0.5, w)});
  ASSERT_TRUE(f.ok()) << f.status();
  EXPECT_EQ(f->rank, 3);  // 0.5 x 240 / 32 = 3.75
  EXPECT_EQ(f->matrix.sorted_leg, "r");
  EXPECT_EQ(f->matrix.bias_tensor, "l.bias");
  ASSERT_EQ(f->tensors.size(), 3u);
  EXPECT_EQ(f->tensors[0].name, "l.U");
  EXPECT_EQ(f->tensors[0].shape, (std::vector<int64_t>{12, 3}));
  EXPECT_EQ(f->tensors[0].bytes.size(), 12u * 3 * 2);
  EXPECT_EQ(f->tensors[1].dtype, DType::kF32);
  EXPECT_EQ(f->tensors[1].bytes.size(), 3u * 4);
  EXPECT_EQ(f->tensors[2].shape, (std::vector<int64_t>{3, 20}));
}

// Rounding U and V to a dtype with unit roundoff u moves the product by at most about 2 u times
// sum_k s_k |u_k| |v_k|.
TEST(MethodTest, StorageRoundsAsItsDTypeDoes) {
  const Matrix64 w = RandomMatrix(16, 24, 2);
  const auto exact = TruncatedSvd(w, RankFromKeep(0.7, 16, 24));
  ASSERT_TRUE(exact.ok());
  double size = 0;
  for (double s : exact->s) size += s;
  const std::pair<DType, double> dtypes[] = {
      {DType::kF32, 0x1p-24}, {DType::kF16, 0x1p-11}, {DType::kBF16, 0x1p-8}};
  double previous = 0;
  for (const auto& [dtype, roundoff] : dtypes) {
    const auto f = RunByName(
        "svd",
        {.name = "l", .weight = &w, .budget = Keep(0.7, w), .encoding = Encoding::Float(dtype)});
    ASSERT_TRUE(f.ok());
    const double moved = std::sqrt(SquaredNorm(Difference(Product(*f), ProductOf(*exact))));
    EXPECT_LT(moved, 2.1 * roundoff * size);
    EXPECT_GT(moved, previous);
    previous = moved;
  }
}

TEST(MethodTest, SvdLlmBeatsSvdOnItsInputs) {
  const Matrix64 w = RandomMatrix(20, 30, 3);
  const Moments moments = RandomMoments(30, 15, 4);  // singular: fewer tokens than features
  const MethodInput input{.name = "l",
                          .weight = &w,
                          .moments = &moments,
                          .budget = Keep(0.4, w),
                          .encoding = Encoding::Float(DType::kF32)};
  const auto whitened = RunByName("svd-llm", input), plain = RunByName("svd", input);
  ASSERT_TRUE(whitened.ok() && plain.ok());
  EXPECT_LT(SquaredWeightedNorm(Difference(w, Product(*whitened)), moments.second),
            SquaredWeightedNorm(Difference(w, Product(*plain)), moments.second));
  EXPECT_LT(SquaredNorm(Difference(w, Product(*plain))),
            SquaredNorm(Difference(w, Product(*whitened))));
}

TEST(MethodTest, RankOne) {
  const Matrix64 w = RandomMatrix(9, 7, 5);
  const Moments moments = RandomMoments(7, 30, 6);
  for (const char* method : {"svd", "svd-llm"}) {
    const auto f =
        RunByName(method, {.name = "l", .weight = &w, .moments = &moments, .budget = {.rank = 1}});
    ASSERT_TRUE(f.ok()) << f.status();
    EXPECT_EQ(f->rank, 1);
  }
}

TEST(MethodTest, RefusesWhatDoesNotFit) {
  Matrix64 w = RandomMatrix(6, 6, 7);
  for (double& v : w.values) v *= 1e-3;
  Moments moments = RandomMoments(6, 30, 8);
  for (double& v : moments.second.values) v *= 1e-20;  // makes V = U^T W / s huge
  const MethodInput input{.name = "l",
                          .weight = &w,
                          .moments = &moments,
                          .budget = Keep(0.5, w),
                          .encoding = Encoding::Float(DType::kF16)};
  EXPECT_THAT(std::string(RunByName("svd-llm", input).status().message()),
              HasSubstr("too large for f16"));
  w(0, 0) = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(std::string(RunByName("svd", input).status().message()), HasSubstr("not finite"));
}

}  // namespace
}  // namespace rankine
