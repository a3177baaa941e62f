#include "tools/compress/low_rank_fit.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/encode/encoding_name.h"
#include "tests/tools/compress/matrix_testing.h"
#include "tools/compress/methods/store.h"

namespace rankine {
namespace {

using testing::MixedMoments;
using testing::NormalMatrix;
using testing::RelativeDistance;

Encoding Named(const std::string& name) { return *ParseEncoding(name); }

double Error(const Matrix64& e, const LowRank& f, const Matrix64& h) {
  return SquaredWeightedNorm(Difference(e, ProductOf(f)), h);
}

// NumPy scales, takes the SVD and scales back. Factors in f32 round by 2^-24 each, and slices that
// cancel make that larger by less than 1000 here.
TEST(LowRankFitTest, EqualsNumPyInEveryNorm) {
  const auto goldens = testing::GoldenOf("q_plus_lr.json").at("low_rank");
  ASSERT_EQ(goldens.size(), 3u);
  for (const auto& golden : goldens) {
    const Matrix64 e = testing::MatrixOfJson(golden.at("e"));
    const Matrix64 h = testing::MatrixOfJson(golden.at("h"));
    std::vector<double> diagonal, absolute = golden.at("mean_absolute");
    for (int64_t j = 0; j < h.rows; ++j) diagonal.push_back(h(j, j));
    for (double& a : absolute) a *= a;
    const std::pair<const char*, Matrix64> norms[] = {
        {"exact", h},
        {"diagonal", DiagonalMatrix(diagonal)},
        {"l2qer", DiagonalMatrix(absolute)},
        {"identity", DiagonalMatrix(std::vector<double>(h.rows, 1.0))}};
    for (const auto& [name, norm] : norms) {
      const auto f = FitLowRank(e, norm, {.rank = golden.at("rank"), .encoding = Named("f32")});
      ASSERT_TRUE(f.ok()) << f.status();
      EXPECT_LT(RelativeDistance(ProductOf(*f), testing::MatrixOfJson(golden.at(name))),
                2 * 0x1p-24 * 1000)
          << name;
    }
  }
}

// Rounding with regard to H is better than rounding the same factors to the nearest, and more bits
// are better than fewer.
TEST(LowRankFitTest, RoundsWithRegardToTheInputs) {
  const int64_t m = 48, n = 64, r = 16;
  const Matrix64 e = NormalMatrix(m, n, 1), h = MixedMoments(n, 3 * n, 2).second;
  const auto ldl = BlockLdl(h, 1, 0.01);
  ASSERT_TRUE(ldl.ok());
  const auto exact = FitLowRank(e, h, {.rank = r, .encoding = Named("f32")});
  ASSERT_TRUE(exact.ok());
  double previous = Error(e, *exact, h) * (1 - 1e-9);
  for (const char* name : {"int8:g16", "int4:g16", "int2:g16"}) {
    const auto f = FitLowRank(e, h, {.rank = r, .encoding = Named(name), .ldl = &*ldl});
    ASSERT_TRUE(f.ok()) << f.status();
    const double error = Error(e, *f, h);
    EXPECT_GT(error, previous) << name;
    previous = error;
    const auto left = RoundMatrix(exact->left.values, {.encoding = Named(name)});
    const auto right = RoundMatrix(exact->right.values, {.encoding = Named(name)});
    EXPECT_LT(error, Error(e, {*left, *right}, h)) << name;
  }
}

TEST(LowRankFitTest, MoreRoundsAreNeverWorse) {
  const Matrix64 e = NormalMatrix(24, 32, 3), h = MixedMoments(32, 96, 4).second;
  double previous = std::numeric_limits<double>::infinity();
  for (const int64_t rounds : {0, 1, 4, 16}) {
    const auto f = FitLowRank(e, h, {.rank = 8, .encoding = Named("int4:g16"), .rounds = rounds});
    ASSERT_TRUE(f.ok());
    EXPECT_LE(Error(e, *f, h), previous);
    previous = Error(e, *f, h);
  }
}

TEST(LowRankFitTest, NothingToFitGivesZeros) {
  const Matrix64 zero(8, 16), h = MixedMoments(16, 48, 5).second;
  const auto ldl = BlockLdl(h, 1, 0.01);
  for (const char* name : {"bf16", "int4:g16"}) {
    const auto f = FitLowRank(zero, h, {.rank = 2, .encoding = Named(name), .ldl = &*ldl});
    ASSERT_TRUE(f.ok()) << f.status();
    EXPECT_EQ(SquaredNorm(ProductOf(*f)), 0);
  }
}

}  // namespace
}  // namespace rankine
