#include "tools/compress/symmetric_eigen.h"

#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "Eigen/Eigenvalues"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/tools/compress/matrix_testing.h"

namespace rankine {
namespace {

using testing::NormalMatrix;

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

Matrix64 Symmetric(int64_t n, const std::function<double(int64_t, int64_t)>& value) {
  Matrix64 a(n, n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) a(i, j) = value(std::min(i, j), std::max(i, j));
  }
  return a;
}

Matrix64 GramOf(const Matrix64& x) { return MatrixProduct(x, Transposed(x)); }

Matrix64 GradedGram(int64_t n, double decades) {
  Matrix64 x = NormalMatrix(n, n, 3);
  for (int64_t i = 0; i < n; ++i) {
    const double scale = std::pow(10.0, -decades * static_cast<double>(i) / static_cast<double>(n));
    for (int64_t j = 0; j < n; ++j) x(i, j) *= scale;
  }
  return GramOf(x);
}

// What breaks eigensolvers: equal and nearly equal eigenvalues, zeros, many decades.
std::vector<std::pair<std::string, Matrix64>> Matrices(int64_t n) {
  const Matrix64 noise = NormalMatrix(n, n, 1);
  return {
      {"random", Symmetric(n, [&](int64_t i, int64_t j) { return noise(i, j); })},
      {"gram", GramOf(noise)},
      {"low rank", GramOf(NormalMatrix(n, std::max<int64_t>(1, n / 4), 2))},
      {"graded", GradedGram(n, 7)},
      {"identity", Symmetric(n, [](int64_t i, int64_t j) { return i == j ? 1.0 : 0.0; })},
      {"zero", Matrix64(n, n)},
      {"ones", Symmetric(n, [](int64_t, int64_t) { return 1.0; })},
      {"diagonal", Symmetric(n,
                             [&](int64_t i, int64_t j) {
                               return i == j ? static_cast<double>(i * 7 % n) - 3.0 : 0.0;
                             })},
      // Wilkinson's: pairs of eigenvalues that agree in more and more digits.
      {"wilkinson", Symmetric(n,
                              [&](int64_t i, int64_t j) {
                                if (i == j) return std::abs(static_cast<double>(i - n / 2));
                                return j == i + 1 ? 1.0 : 0.0;
                              })},
      {"cluster",
       Symmetric(n, [&](int64_t i, int64_t j) { return (i == j) + 1e-9 * noise(i, j); })},
      {"tiny", Symmetric(n, [&](int64_t i, int64_t j) { return 1e-150 * noise(i, j); })},
  };
}

// Of a backward stable method everything is exact for a matrix within a small multiple of
// n eps |A|; 16 of them leave room for all three steps.
double Tolerance(int64_t n) { return 16 * static_cast<double>(n) * kEpsilon; }

void ExpectEigen(const Matrix64& a, const SymmetricEigen& eigen, int64_t wanted) {
  const int64_t n = a.rows;
  ASSERT_EQ(eigen.values.size(), static_cast<size_t>(n));
  ASSERT_EQ(eigen.vectors.rows, wanted);
  const double norm = std::sqrt(SquaredNorm(a));
  const Eigen::Map<const Eigen::MatrixXd> view(a.values.data(), n, n);
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(view);
  for (int64_t k = 0; k < n; ++k) {
    EXPECT_NEAR(eigen.values[k], solver.eigenvalues()[n - 1 - k], Tolerance(n) * norm) << k;
  }
  if (wanted == 0) return;
  const Matrix64 images = MatrixProduct(eigen.vectors, a);
  const Matrix64 products = GramOf(eigen.vectors);
  for (int64_t k = 0; k < wanted; ++k) {
    double residual = 0;
    for (int64_t j = 0; j < n; ++j) {
      const double r = images(k, j) - eigen.values[k] * eigen.vectors(k, j);
      residual += r * r;
    }
    EXPECT_LE(std::sqrt(residual), Tolerance(n) * norm) << k;
    for (int64_t j = 0; j < wanted; ++j) {
      ASSERT_NEAR(products(k, j), k == j ? 1.0 : 0.0, Tolerance(n)) << k << " " << j;
    }
  }
}

// Around the sizes of a leaf (48), a panel (64) and what both make of halves.
TEST(SymmetricEigenTest, EqualsEigensSolver) {
  for (const int64_t n : {1, 2, 3, 17, 48, 49, 64, 65, 97, 130, 201}) {
    for (const auto& [name, a] : Matrices(n)) {
      SCOPED_TRACE(absl::StrCat(name, " ", n));
      const auto eigen = LargestEigen(a, n);
      ASSERT_TRUE(eigen.ok()) << eigen.status();
      ExpectEigen(a, *eigen, n);
    }
  }
}

TEST(SymmetricEigenTest, SomeVectorsAreTheFirstOfAll) {
  for (const auto& [name, a] : Matrices(120)) {
    for (const int64_t wanted : {0, 1, 50}) {
      SCOPED_TRACE(absl::StrCat(name, " ", wanted));
      const auto eigen = LargestEigen(a, wanted);
      ASSERT_TRUE(eigen.ok()) << eigen.status();
      ExpectEigen(a, *eigen, wanted);
    }
  }
}

// The second difference: eigenvalue k is 2 - 2 cos(k pi / (n + 1)).
TEST(SymmetricEigenTest, KnowsTheSpectrumOfASecondDifference) {
  const int64_t n = 333;
  const Matrix64 a =
      Symmetric(n, [](int64_t i, int64_t j) { return i == j ? 2.0 : (j == i + 1 ? -1.0 : 0.0); });
  const auto eigen = LargestEigen(a, 0);
  ASSERT_TRUE(eigen.ok()) << eigen.status();
  for (int64_t k = 0; k < n; ++k) {
    const double angle = M_PI * static_cast<double>(n - k) / static_cast<double>(n + 1);
    EXPECT_NEAR(eigen->values[k], 2 - 2 * std::cos(angle), 4 * Tolerance(n)) << k;
  }
}

TEST(SymmetricEigenTest, RepeatsEveryBit) {
  const Matrix64 a = GradedGram(150, 3);
  const auto one = LargestEigen(a, 70), two = LargestEigen(a, 70);
  EXPECT_EQ(one->values, two->values);
  EXPECT_EQ(one->vectors.values, two->vectors.values);
}

TEST(SymmetricEigenTest, RefusesWhatIsNotFinite) {
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    Matrix64 a = GradedGram(60, 1);
    a(20, 30) = a(30, 20) = bad;
    EXPECT_EQ(LargestEigen(a, 60).status().code(), absl::StatusCode::kInternal);
  }
}

}  // namespace
}  // namespace rankine
