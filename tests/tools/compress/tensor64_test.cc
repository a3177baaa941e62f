#include "tools/compress/tensor64.h"

#include <random>

#include "gtest/gtest.h"

namespace rankine {
namespace {

Tensor64 Counting(std::vector<int64_t> extents) {
  Tensor64 t(std::move(extents));
  for (size_t i = 0; i < t.values.size(); ++i) t.values[i] = static_cast<double>(i);
  return t;
}

TEST(Tensor64Test, PermutesLikeTransposingIndices) {
  const Tensor64 t = Counting({2, 3, 4});
  const Tensor64 p = Permuted(t, std::vector<size_t>{2, 0, 1});
  ASSERT_EQ(p.extents, (std::vector<int64_t>{4, 2, 3}));
  for (int64_t a = 0; a < 2; ++a) {
    for (int64_t b = 0; b < 3; ++b) {
      for (int64_t c = 0; c < 4; ++c) {
        EXPECT_EQ(p.values[(c * 2 + a) * 3 + b], t.values[(a * 3 + b) * 4 + c]);
      }
    }
  }
}

TEST(Tensor64Test, UnfoldsAndFoldsEveryMode) {
  const Tensor64 t = Counting({2, 3, 4, 2});
  for (size_t mode = 0; mode < 4; ++mode) {
    const Matrix64 m = Unfold(t, mode);
    EXPECT_EQ(m.rows, t.extents[mode]);
    EXPECT_EQ(m.cols, t.NumbersPerSlice(mode));
    EXPECT_EQ(Fold(m, mode, t.extents).values, t.values);
  }
  // Row 1 of mode 1: (a, 1, c, d) with the last fastest.
  EXPECT_EQ(Unfold(t, 1)(1, 0), 8);
  EXPECT_EQ(Unfold(t, 1)(1, 1), 9);
  EXPECT_EQ(Unfold(t, 1)(1, 8), 32);
}

TEST(Tensor64Test, ModeProductsSumThatMode) {
  const Tensor64 t = Counting({2, 3, 2});
  Matrix64 m(2, 3);
  m.values = {1, 0, 2, 0, -1, 1};
  const Tensor64 p = ModeProduct(t, 1, m);
  ASSERT_EQ(p.extents, (std::vector<int64_t>{2, 2, 2}));
  for (int64_t a = 0; a < 2; ++a) {
    for (int64_t c = 0; c < 2; ++c) {
      const auto at = [&](int64_t b) { return t.values[(a * 3 + b) * 2 + c]; };
      EXPECT_EQ(p.values[a * 4 + c], at(0) + 2 * at(2));
      EXPECT_EQ(p.values[a * 4 + 2 + c], at(2) - at(1));
    }
  }
  EXPECT_EQ(Transposed(m).values, (std::vector<double>{1, 0, 0, -1, 2, 1}));
  EXPECT_EQ(SquaredNorm(Counting({2, 2})), 0 + 1 + 4 + 9);
}

}  // namespace
}  // namespace rankine
