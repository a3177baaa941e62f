// Tensor trains and matrix product operators against NumPy (tests/testing/generators/tensors.py),
// and the theorem of the canonical form.
#include "tools/compress/mpo_decomposition.h"

#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace rankine {
namespace {

using ::testing::HasSubstr;

struct Golden {
  std::string name;
  Matrix64 w, h, product, fitted;
  MpoShape shape;
  int64_t bond = 0;
  std::vector<double> dropped;
};

Matrix64 ReadMatrix(const nlohmann::json& j) {
  Matrix64 a(static_cast<int64_t>(j.size()), static_cast<int64_t>(j.at(0).size()));
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t k = 0; k < a.cols; ++k) a(i, k) = j.at(i).at(k).get<double>();
  }
  return a;
}

std::vector<Golden> Goldens() {
  std::ifstream in(std::string(RANKINE_TEST_DATA) + "/compress/tensors.json");
  std::vector<Golden> goldens;
  const auto file = nlohmann::json::parse(in);
  for (const auto& j : file.at("mpo")) {
    Golden& g = goldens.emplace_back();
    g.name = j.at("name");
    g.w = ReadMatrix(j.at("w"));
    g.h = ReadMatrix(j.at("h"));
    g.product = ReadMatrix(j.at("product"));
    g.fitted = ReadMatrix(j.at("fitted"));
    g.shape = *ParseMpoShape(j.at("shape").get<std::string>(), g.w.rows, g.w.cols);
    g.bond = j.at("bond");
    g.dropped = j.at("dropped").get<std::vector<double>>();
  }
  EXPECT_GE(goldens.size(), 6u);
  return goldens;
}

double Distance(const Matrix64& a, const Matrix64& b) {
  return std::sqrt(SquaredNorm(Difference(a, b)) / SquaredNorm(b));
}

// Subspaces come from Gram matrices: off by n eps s_1^2 over a gap of the squares, which is a few
// thousandths of s_1^2 here.
constexpr double kTolerance = 1e-11;

TEST(MpoDecompositionTest, EqualsNumPy) {
  for (const Golden& g : Goldens()) {
    SCOPED_TRACE(g.name);
    const auto train = DecomposeMpo(g.w, g.shape, g.bond);
    ASSERT_TRUE(train.ok()) << train.status();
    EXPECT_LT(Distance(MpoProduct(train->cores, g.shape), g.product), kTolerance);
  }
}

// The squared Frobenius error is the sum of the squares of everything dropped, by NumPy's SVDs.
TEST(MpoDecompositionTest, TheErrorIsExactlyWhatWasDropped) {
  for (const Golden& g : Goldens()) {
    SCOPED_TRACE(g.name);
    const auto train = DecomposeMpo(g.w, g.shape, g.bond);
    ASSERT_TRUE(train.ok()) << train.status();
    double dropped = 0;
    for (const double d : g.dropped) dropped += d;
    const double error = SquaredNorm(Difference(g.w, MpoProduct(train->cores, g.shape)));
    const double whole = SquaredNorm(g.w);
    ASSERT_GT(dropped, 0.01 * whole);
    EXPECT_NEAR(error, dropped, 1e-9 * whole);
    EXPECT_NEAR(train->discarded, dropped, 1e-9 * whole);
  }
}

TEST(MpoDecompositionTest, AllButTheLastCoreAreOrthonormal) {
  for (const Golden& g : Goldens()) {
    const auto train = DecomposeMpo(g.w, g.shape, g.bond);
    for (size_t k = 0; k + 1 < train->cores.size(); ++k) {
      const Tensor64& core = train->cores[k];
      Matrix64 u(core.extents[0] * core.extents[1], core.extents[2]);
      u.values = core.values;
      const Matrix64 gram = MatrixProduct(Transposed(u), u);
      for (int64_t i = 0; i < gram.rows; ++i) {
        for (int64_t j = 0; j < gram.cols; ++j) EXPECT_NEAR(gram(i, j), i == j, 1e-12);
      }
    }
  }
}

TEST(MpoDecompositionTest, TheLargestBondLosesNothing) {
  for (const Golden& g : Goldens()) {
    const auto train = DecomposeMpo(g.w, g.shape, LargestBond(g.shape));
    ASSERT_TRUE(train.ok());
    EXPECT_LT(Distance(MpoProduct(train->cores, g.shape), g.w), 1e-12) << g.name;
    EXPECT_LT(train->discarded, 1e-12 * SquaredNorm(g.w));
  }
}

TEST(MpoDecompositionTest, TheFitUnderHEqualsLeastSquaresOverTheSamples) {
  for (const Golden& g : Goldens()) {
    SCOPED_TRACE(g.name);
    const auto cores = DecomposeMpoUnder(g.w, g.h, g.shape, g.bond);
    ASSERT_TRUE(cores.ok()) << cores.status();
    const Matrix64 product = MpoProduct(*cores, g.shape);
    // The normal equations square the condition of the samples, at most some 10^3 here.
    EXPECT_LT(Distance(product, g.fitted), 1e-9);
    EXPECT_LT(SquaredWeightedNorm(Difference(g.w, product), g.h),
              SquaredWeightedNorm(Difference(g.w, g.product), g.h));
  }
}

TEST(MpoDecompositionTest, SingularMomentsAreNoError) {
  for (Golden g : Goldens()) {
    for (int64_t i = 0; i < g.h.rows; ++i) g.h(i, 0) = g.h(0, i) = 0;  // a feature never seen
    const auto cores = DecomposeMpoUnder(g.w, g.h, g.shape, g.bond);
    ASSERT_TRUE(cores.ok()) << cores.status();
    EXPECT_LE(SquaredWeightedNorm(Difference(g.w, MpoProduct(*cores, g.shape)), g.h),
              SquaredWeightedNorm(Difference(g.w, g.product), g.h) * (1 + 1e-9));
  }
}

TEST(MpoDecompositionTest, RefusesWhatDoesNotFit) {
  Golden g = Goldens()[0];
  for (const int64_t bond : {0, -3}) {
    EXPECT_THAT(std::string(DecomposeMpo(g.w, g.shape, bond).status().message()),
                HasSubstr("is outside [1, 8]"));
  }
  EXPECT_THAT(std::string(DecomposeMpoUnder(g.w, Matrix64(3, 3), g.shape, 2).status().message()),
              HasSubstr("second moments of 3 x 3 do not fit a 12 x 12 matrix"));
  EXPECT_THAT(
      std::string(
          DecomposeMpoUnder(g.w, Matrix64(g.w.cols, g.w.cols), g.shape, 2).status().message()),
      HasSubstr("never excites"));
  g.w(1, 1) = std::numeric_limits<double>::infinity();
  EXPECT_THAT(std::string(DecomposeMpo(g.w, g.shape, 2).status().message()),
              HasSubstr("not finite"));
  Matrix64 identity(128, 128);
  for (int64_t i = 0; i < 128; ++i) identity(i, i) = 1;
  const auto large = DecomposeMpoUnder(Matrix64(65, 128), identity, {{1, 128}, {65, 1}}, 65);
  EXPECT_EQ(large.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(large.status().message()), HasSubstr("8320 unknowns, more than 8192"));
}

}  // namespace
}  // namespace rankine
