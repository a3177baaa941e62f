#include "tools/compress/secular_equation.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace rankine {
namespace {

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

// d + rho z^2 alone.
TEST(SecularEquationTest, OnePoleIsASum) {
  const SecularEigen eigen = SolveSecular({3.0}, {0.5}, 2.0);
  EXPECT_NEAR(eigen.values[0], 3.5, 4 * kEpsilon);
  EXPECT_NEAR(eigen.differences(0, 0), -0.5, 4 * kEpsilon);
}

// Two poles: the roots of a quadratic equation.
TEST(SecularEquationTest, TwoPolesAreAQuadraticEquation) {
  const double d = 1, e = 2, z = 0.6, w = 0.8, rho = 0.25;
  const SecularEigen eigen = SolveSecular({d, e}, {z, w}, rho);
  const double trace = d + e + rho, det = d * e + rho * (e * z * z + d * w * w);
  const double root = std::sqrt(trace * trace - 4 * det);
  EXPECT_NEAR(eigen.values[0], (trace - root) / 2, 8 * kEpsilon);
  EXPECT_NEAR(eigen.values[1], (trace + root) / 2, 8 * kEpsilon);
}

// Roots as near to poles as weights of 1e-10 put them: values interlace, differences keep their
// digits and the vectors they give are orthogonal, which they are for the weights alone.
TEST(SecularEquationTest, VectorsAreOrthogonalWhereRootsTouchPoles) {
  const int64_t k = 40;
  std::vector<double> d, z;
  for (int64_t j = 0; j < k; ++j) {
    d.push_back(j % 2 == 0 ? static_cast<double>(j) : static_cast<double>(j - 1) + 1e-12);
    z.push_back((j % 3 == 0 ? 1e-10 : 0.1) * (j % 5 == 0 ? -1 : 1));
  }
  const SecularEigen eigen = SolveSecular(d, z, 1.5);
  for (int64_t i = 0; i < k; ++i) {
    EXPECT_LE(eigen.differences(i, i), 0) << i;
    EXPECT_NE(eigen.differences(i, i), 0) << i;
    EXPECT_TRUE(i + 1 == k || eigen.differences(i, i + 1) > 0) << i;
    EXPECT_EQ(std::signbit(eigen.weights[i]), std::signbit(z[i])) << i;
    EXPECT_NEAR(eigen.weights[i] / z[i], std::sqrt(1.5), 1e-3) << i;
  }
  for (int64_t a = 0; a < k; ++a) {
    for (int64_t b = 0; b < a; ++b) {
      double dot = 0, one = 0, two = 0;
      for (int64_t j = 0; j < k; ++j) {
        const double x = eigen.weights[j] / eigen.differences(a, j);
        const double y = eigen.weights[j] / eigen.differences(b, j);
        dot += x * y;
        one += x * x;
        two += y * y;
      }
      EXPECT_NEAR(dot / std::sqrt(one * two), 0, 16 * k * kEpsilon) << a << " " << b;
    }
  }
}

}  // namespace
}  // namespace rankine
