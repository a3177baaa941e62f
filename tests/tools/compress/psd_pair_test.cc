#include "tools/compress/psd_pair.h"

#include <cmath>

#include "gtest/gtest.h"
#include "tests/tools/compress/matrix_testing.h"

namespace rankine {
namespace {

using testing::NormalMatrix;
using testing::RelativeDistance;

Matrix64 Psd(int64_t n, int64_t rank, uint64_t seed) {
  const Matrix64 x = NormalMatrix(n, rank, seed);
  return MatrixProduct(x, Transposed(x));
}

Matrix64 Left(const Matrix64& n1, const Matrix64& x, const Matrix64& s1, const Matrix64& n2,
              const Matrix64& s2) {
  Matrix64 sum = MatrixProduct(MatrixProduct(n1, x), s1);
  const Matrix64 second = MatrixProduct(MatrixProduct(n2, x), s2);
  for (size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += second.values[i];
  return sum;
}

TEST(PsdPairTest, OneBasisMakesBothDiagonal) {
  for (const int64_t rank : {3, 9}) {
    const Matrix64 n1 = Psd(9, rank, 1), n2 = Psd(9, 7, 2);
    const auto pair = DiagonalisePair(n1, n2);
    ASSERT_TRUE(pair.ok()) << pair.status();
    ASSERT_EQ(pair->basis.cols, 9);
    for (const bool first : {true, false}) {
      const Matrix64 d =
          MatrixProduct(Transposed(pair->basis), MatrixProduct(first ? n1 : n2, pair->basis));
      const std::vector<double>& expected = first ? pair->first : pair->second;
      for (int64_t i = 0; i < 9; ++i) {
        for (int64_t j = 0; j < 9; ++j) {
          // The condition of the sum, below 1e4 here, multiplies rounding.
          EXPECT_NEAR(d(i, j), i == j ? expected[i] : 0, 1e-9 * std::sqrt(SquaredNorm(n1)));
        }
      }
    }
  }
}

TEST(PsdPairTest, SolvesForAnUnknownWithTwoMetricsOnBothSides) {
  const Matrix64 n1 = Psd(6, 6, 3), n2 = Psd(6, 2, 4), s1 = Psd(5, 5, 5), s2 = Psd(5, 3, 6);
  const Matrix64 x = NormalMatrix(6, 5, 7);
  const auto n = DiagonalisePair(n1, n2), s = DiagonalisePair(s1, s2);
  ASSERT_TRUE(n.ok() && s.ok());
  EXPECT_LT(RelativeDistance(SolvePair(*n, *s, Left(n1, x, s1, n2, s2)), x), 1e-9);
}

// Blocks that nothing couples, one of them met by n2 alone, and a direction that both leave out.
TEST(PsdPairTest, BlocksAndDirectionsThatNothingReaches) {
  Matrix64 n1(7, 7), n2(7, 7);
  const Matrix64 a = Psd(3, 3, 8), b = Psd(3, 3, 9);
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t j = 0; j < 3; ++j) {
      n1(i, j) = a(i, j);
      n2(3 + i, 3 + j) = b(i, j);
    }
  }
  const Matrix64 s1 = Psd(4, 4, 10), s2 = Psd(4, 4, 11);
  const auto n = DiagonalisePair(n1, n2), s = DiagonalisePair(s1, s2);
  ASSERT_TRUE(n.ok() && s.ok());
  EXPECT_EQ(n->basis.cols, 6);
  Matrix64 x = NormalMatrix(7, 4, 12);
  for (int64_t j = 0; j < 4; ++j) x(6, j) = 0;
  EXPECT_LT(RelativeDistance(SolvePair(*n, *s, Left(n1, x, s1, n2, s2)), x), 1e-9);
}

TEST(PsdPairTest, TheRootIsSymmetric) {
  const Matrix64 h = Psd(8, 5, 13);
  const auto root = SymmetricRoot(h);
  ASSERT_TRUE(root.ok());
  EXPECT_LT(RelativeDistance(MatrixProduct(*root, *root), h), 1e-12);
  EXPECT_LT(RelativeDistance(Transposed(*root), *root), 1e-12);
}

}  // namespace
}  // namespace rankine
