#include "tools/compress/linalg.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace rankine {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();

struct Golden {
  std::string name;
  int64_t rank;
  bool singular_moments;
  Matrix64 w, h, product, weighted_product;
  std::vector<double> values, weighted_values;
};

Matrix64 ReadMatrix(const nlohmann::json& j) {
  Matrix64 a(j.size(), j.at(0).size());
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t k = 0; k < a.cols; ++k) a(i, k) = j.at(i).at(k).get<double>();
  }
  return a;
}

std::vector<Golden> ReadGoldens() {
  std::ifstream in(std::string(RANKINE_TEST_DATA) + "/compress/svd.json");
  std::vector<Golden> cases;
  for (const auto& j : nlohmann::json::parse(in)) {
    cases.push_back({.name = j.at("name"),
                     .rank = j.at("rank"),
                     .singular_moments = j.at("singular_moments"),
                     .w = ReadMatrix(j.at("w")),
                     .h = ReadMatrix(j.at("h")),
                     .product = ReadMatrix(j.at("product")),
                     .weighted_product = ReadMatrix(j.at("weighted_product")),
                     .values = j.at("values"),
                     .weighted_values = j.at("weighted_values")});
  }
  return cases;
}

Matrix64 RandomMatrix(int64_t rows, int64_t cols, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  Matrix64 a(rows, cols);
  for (double& v : a.values) v = normal(random);
  return a;
}

// X X^T / T of T random inputs.
Matrix64 RandomMoments(int64_t n, int64_t tokens, uint64_t seed) {
  const Matrix64 x = RandomMatrix(n, tokens, seed);
  Matrix64 h(n, n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t t = 0; t < tokens; ++t) h(i, j) += x(i, t) * x(j, t) / tokens;
    }
  }
  return h;
}

double Norm(const Matrix64& a) { return std::sqrt(SquaredNorm(a)); }
double WeightedNorm(const Matrix64& a, const Matrix64& h) {
  return std::sqrt(SquaredWeightedNorm(a, h));
}

// Rounding of a Gram matrix of order k, as a share of s_1^2: the sum of k products and the
// eigendecomposition's backward error, each a small multiple of k eps.
double GramError(const Matrix64& w) { return 10.0 * std::max(w.rows, w.cols) * kEps; }

void ExpectValues(const std::vector<double>& s, const std::vector<double>& expected,
                  double gram_error) {
  const double s1 = expected[0];
  for (size_t k = 0; k < s.size(); ++k) {
    EXPECT_NEAR(s[k], expected[k], gram_error * s1 * s1 / expected[k]) << k;
    if (k > 0) {
      EXPECT_LE(s[k], s[k - 1]);
    }
  }
}

// Davis and Kahan: the subspace turns by at most ||E|| / gap of the squared values, and the
// projection of W moves by twice that times ||W||.
double ProductTolerance(const std::vector<double>& s, int64_t rank, double gram_error,
                        double norm) {
  const double below = rank < static_cast<int64_t>(s.size()) ? s[rank] : 0.0;
  const double gap = s[rank - 1] * s[rank - 1] - below * below;
  return 2 * gram_error * s[0] * s[0] / gap * norm + gram_error * norm;
}

double MaxNonOrthogonality(const Matrix64& u) {
  double worst = 0;
  for (int64_t a = 0; a < u.cols; ++a) {
    for (int64_t b = 0; b < u.cols; ++b) {
      double dot = a == b ? -1 : 0;
      for (int64_t i = 0; i < u.rows; ++i) dot += u(i, a) * u(i, b);
      worst = std::max(worst, std::abs(dot));
    }
  }
  return worst;
}

TEST(LinalgTest, TruncatedSvdEqualsNumPy) {
  const auto goldens = ReadGoldens();
  ASSERT_EQ(goldens.size(), 10u);
  for (const Golden& g : goldens) {
    SCOPED_TRACE(g.name);
    const auto f = TruncatedSvd(g.w, g.rank);
    ASSERT_TRUE(f.ok()) << f.status();
    ExpectValues(f->s, g.values, GramError(g.w));
    EXPECT_LT(MaxNonOrthogonality(f->u), GramError(g.w));
    EXPECT_LT(Norm(Difference(ProductOf(*f), g.product)),
              ProductTolerance(g.values, g.rank, GramError(g.w), Norm(g.w)));
  }
}

TEST(LinalgTest, WeightedSvdEqualsNumPy) {
  for (const Golden& g : ReadGoldens()) {
    SCOPED_TRACE(g.name);
    const auto f = WeightedSvd(g.w, g.h, g.rank);
    ASSERT_TRUE(f.ok()) << f.status();
    // W H W^T is rounded relative to ||W||^2 ||H||, which may exceed s_1^2.
    const double s1 = g.weighted_values[0];
    const double scale = SquaredNorm(g.w) * Norm(g.h) / (s1 * s1);
    const double gram_error = GramError(g.w) * std::max(1.0, scale);
    ExpectValues(f->s, g.weighted_values, gram_error);
    EXPECT_LT(MaxNonOrthogonality(f->u), GramError(g.w));
    const Matrix64 difference = Difference(ProductOf(*f), g.weighted_product);
    const double tolerance = ProductTolerance(g.weighted_values, g.rank, gram_error, Norm(g.w));
    // Where H is singular the two agree on its range alone.
    const double error = g.singular_moments ? WeightedNorm(difference, g.h) : Norm(difference);
    EXPECT_LT(error, g.singular_moments ? std::sqrt(tolerance * Norm(g.w) * Norm(g.h)) : tolerance);
  }
}

TEST(LinalgTest, SingularValueIsTheLossOfItsSlice) {
  const Matrix64 w = RandomMatrix(12, 9, 1), h = RandomMoments(9, 40, 2);
  const auto full = WeightedSvd(w, h, 9);
  ASSERT_TRUE(full.ok());
  for (int64_t k = 0; k < 9; ++k) {
    SvdFactors slice{Matrix64(12, 1), {full->s[k]}, Matrix64(1, 9)};
    for (int64_t i = 0; i < 12; ++i) slice.u(i, 0) = full->u(i, k);
    std::copy_n(full->v.Row(k), 9, slice.v.Row(0));
    EXPECT_NEAR(WeightedNorm(ProductOf(slice), h), full->s[k], 1e-12 * full->s[0]);
    // And dropping it from the whole costs exactly that.
    const Matrix64 rest = Difference(ProductOf(*full), ProductOf(slice));
    EXPECT_NEAR(WeightedNorm(Difference(w, rest), h), full->s[k], 1e-12 * full->s[0]);
  }
}

TEST(LinalgTest, TheTailIsTheError) {
  const Matrix64 w = RandomMatrix(10, 14, 3), h = RandomMoments(14, 60, 4);
  const auto full = WeightedSvd(w, h, 10);
  const auto cut = WeightedSvd(w, h, 4);
  ASSERT_TRUE(full.ok() && cut.ok());
  double tail = 0;
  for (int64_t k = 4; k < 10; ++k) tail += full->s[k] * full->s[k];
  EXPECT_NEAR(SquaredWeightedNorm(Difference(w, ProductOf(*cut)), h), tail, 1e-12 * tail * 10);
  // The first slices do not depend on the rank: the leg is sorted, a prefix is the smaller answer.
  for (int64_t k = 0; k < 4; ++k) EXPECT_NEAR(cut->s[k], full->s[k], 1e-12 * full->s[0]);
}

// Nothing of rank r beats the weighted SVD in the weighted norm, nor the plain one in the plain
// norm.
TEST(LinalgTest, NoOtherMatrixOfThatRankIsBetter) {
  for (const auto& [m, n] : std::vector<std::pair<int64_t, int64_t>>{{8, 13}, {13, 8}, {9, 9}}) {
    const Matrix64 w = RandomMatrix(m, n, 5), h = RandomMoments(n, 50, 6);
    const int64_t rank = 3;
    const auto weighted = WeightedSvd(w, h, rank);
    const auto plain = TruncatedSvd(w, rank);
    ASSERT_TRUE(weighted.ok() && plain.ok());
    const double best_weighted = WeightedNorm(Difference(w, ProductOf(*weighted)), h);
    const double best_plain = Norm(Difference(w, ProductOf(*plain)));
    EXPECT_LT(best_weighted, WeightedNorm(Difference(w, ProductOf(*plain)), h));
    EXPECT_LT(best_plain, Norm(Difference(w, ProductOf(*weighted))));
    for (uint64_t seed = 0; seed < 200; ++seed) {
      // Neighbours of the optimum are the hard case.
      SvdFactors other = *weighted;
      const double step = std::pow(10.0, -static_cast<double>(seed % 5));
      const Matrix64 du = RandomMatrix(m, rank, 100 + seed), dv = RandomMatrix(rank, n, 900 + seed);
      for (size_t i = 0; i < du.values.size(); ++i) other.u.values[i] += step * du.values[i];
      for (size_t i = 0; i < dv.values.size(); ++i) other.v.values[i] += step * dv.values[i];
      EXPECT_GE(WeightedNorm(Difference(w, ProductOf(other)), h), best_weighted * (1 - 1e-12));
      EXPECT_GE(Norm(Difference(w, ProductOf(other))), best_plain * (1 - 1e-12));
    }
  }
}

// `lord` without the mean: eigenvectors Q of C = Cov(y) = W H W^T, W' = Q_r Q_r^T W. The tall path
// never forms C, so for it this is a check by another way.
TEST(LinalgTest, EqualsProjectionOnPrincipalOutputs) {
  for (const auto& [m, n] : std::vector<std::pair<int64_t, int64_t>>{{14, 8}, {8, 14}}) {
    const Matrix64 w = RandomMatrix(m, n, 7), h = RandomMoments(n, 64, 8);
    const auto f = WeightedSvd(w, h, 4);
    ASSERT_TRUE(f.ok());
    Matrix64 c(m, m), wh(m, n);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j)
        for (int64_t k = 0; k < n; ++k) wh(i, j) += w(i, k) * h(k, j);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < m; ++j)
        for (int64_t k = 0; k < n; ++k) c(i, j) += wh(i, k) * w(j, k);
    const auto q = TruncatedSvd(c, 4);  // of a symmetric positive matrix: its eigenvectors
    ASSERT_TRUE(q.ok());
    Matrix64 projected(m, n);
    for (int64_t a = 0; a < 4; ++a)
      for (int64_t j = 0; j < n; ++j) {
        double dot = 0;
        for (int64_t i = 0; i < m; ++i) dot += q->u(i, a) * w(i, j);
        for (int64_t i = 0; i < m; ++i) projected(i, j) += q->u(i, a) * dot;
      }
    EXPECT_LT(Norm(Difference(ProductOf(*f), projected)), 1e-10 * Norm(w));
  }
}

TEST(LinalgTest, RepeatsToTheLastBit) {
  const Matrix64 w = RandomMatrix(30, 20, 9), h = RandomMoments(20, 64, 10);
  const auto a = WeightedSvd(w, h, 7), b = WeightedSvd(w, h, 7);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(a->u.values, b->u.values);
  EXPECT_EQ(a->s, b->s);
  EXPECT_EQ(a->v.values, b->v.values);
}

TEST(LinalgTest, RankDeficientAndZeroMatrices) {
  Matrix64 w(6, 9);  // rank 1
  for (int64_t i = 0; i < 6; ++i)
    for (int64_t j = 0; j < 9; ++j) w(i, j) = (i + 1.0) * (j - 4.0);
  for (const Matrix64& a : {w, Matrix64(6, 9), Matrix64(9, 6)}) {
    const auto f = TruncatedSvd(a, 3);
    ASSERT_TRUE(f.ok()) << f.status();
    EXPECT_TRUE(CheckFinite(f->v).ok());
    EXPECT_LE(Norm(Difference(a, ProductOf(*f))), 1e-13 * Norm(w));
    EXPECT_LT(MaxNonOrthogonality(f->u), GramError(a));
    const auto g = WeightedSvd(a, RandomMoments(a.cols, 3, 11), 3);
    ASSERT_TRUE(g.ok()) << g.status();
    EXPECT_LE(Norm(Difference(a, ProductOf(*g))), 1e-13 * Norm(w));
  }
}

TEST(LinalgTest, RefusesBadArguments) {
  const Matrix64 h = RandomMoments(4, 9, 12);
  Matrix64 w = RandomMatrix(3, 4, 13);
  EXPECT_THAT(std::string(TruncatedSvd(w, 0).status().message()), testing::HasSubstr("rank 0"));
  EXPECT_THAT(std::string(WeightedSvd(w, h, 4).status().message()), testing::HasSubstr("rank 4"));
  EXPECT_THAT(std::string(WeightedSvd(w, RandomMoments(3, 9, 14), 2).status().message()),
              testing::HasSubstr("do not fit"));
  EXPECT_THAT(std::string(WeightedSvd(w, Matrix64(4, 4), 2).status().message()),
              testing::HasSubstr("never excites"));
  w(1, 2) = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(std::string(TruncatedSvd(w, 2).status().message()),
              testing::HasSubstr("row 1, column 2 is not finite"));
  EXPECT_FALSE(WeightedSvd(w, h, 2).ok());
  Matrix64 bad = h;
  bad(0, 3) = std::numeric_limits<double>::infinity();
  EXPECT_FALSE(WeightedSvd(RandomMatrix(3, 4, 13), bad, 2).ok());
}

}  // namespace
}  // namespace rankine
