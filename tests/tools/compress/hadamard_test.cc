#include "tools/compress/hadamard.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/api/hadamard.h"
#include "runtime/device/device.h"
#include "tests/tools/compress/matrix_testing.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;
using testing::NormalMatrix;
using testing::RelativeDistance;

constexpr double kEps = 0x1p-52;

Matrix64 Identity(int64_t n) {
  Matrix64 a(n, n);
  for (int64_t i = 0; i < n; ++i) a(i, i) = 1;
  return a;
}

TEST(HadamardTest, IsTheKroneckerProductOfNumPy) {
  const auto goldens = testing::GoldenOf("q_plus_lr.json").at("hadamard");
  ASSERT_EQ(goldens.size(), 3u);
  for (const auto& golden : goldens) {
    const Matrix64 block = testing::MatrixOfJson(golden.at("block"));
    const HadamardTransform t(golden.at("signs").get<std::vector<double>>(), block.values,
                              block.rows);
    Matrix64 columns = Identity(t.features());
    t.TransformOutputs(&columns);  // A I
    const Matrix64 expected = testing::MatrixOfJson(golden.at("matrix"));
    EXPECT_LT(RelativeDistance(columns, expected), 8 * kEps);
    Matrix64 rows = Identity(t.features());
    t.TransformInputs(&rows);  // I A^T
    EXPECT_LT(RelativeDistance(Transposed(rows), expected), 8 * kEps);
  }
}

TEST(HadamardTest, IsOrthogonalAndKeepsALayersOutputs) {
  for (const int64_t n : {1, 8, 12, 72, 576}) {
    const auto t = HadamardTransform::Random(n, 5);
    ASSERT_TRUE(t.ok()) << t.status();
    const Matrix64 x = NormalMatrix(1, n, n);
    std::vector<double> y = x.values;
    t->Apply(y.data());
    t->ApplyInverse(y.data());
    // The block is orthogonal only as far as f32 holds it.
    for (int64_t i = 0; i < n; ++i) EXPECT_NEAR(y[i], x.values[i], n * 0x1p-24 * 4);

    Matrix64 w = NormalMatrix(3, n, n + 1);
    Matrix64 h = testing::MixedMoments(n, 2 * n, n + 2).second;
    const double before = SquaredWeightedNorm(w, h);
    t->TransformInputs(&w);
    t->TransformMoments(&h);
    EXPECT_NEAR(SquaredWeightedNorm(w, h) / before, 1, n * 0x1p-24 * 4);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) ASSERT_EQ(h(i, j), h(j, i));
    }
  }
}

// The engine's op computes in f32 what this does in f64, both ways.
TEST(HadamardTest, AgreesWithTheEngine) {
  auto device = MakeCpuDevice({.num_threads = 1});
  ASSERT_TRUE(device.ok());
  const int64_t n = 48;  // 16 x 3
  const auto t = HadamardTransform::Random(n, 9);
  ASSERT_TRUE(t.ok());
  std::vector<StoredTensor> tensors;
  const Transform stored = t->Store("l.in", true, &tensors);
  EXPECT_TRUE(stored.transposed);
  const StoredTensorSource source(tensors);
  std::vector<float> signs(n), block(9);
  ASSERT_TRUE(source.ReadRows(stored.tensor, 0, 1, n, DType::kF32, signs.data()).ok());
  ASSERT_TRUE(source.ReadRows(stored.block_tensor, 0, 3, 3, DType::kF32, block.data()).ok());
  for (const bool inverse : {false, true}) {
    const Matrix64 x = NormalMatrix(1, n, 3);
    std::vector<float> y(x.values.begin(), x.values.end());
    std::vector<double> expected(y.begin(), y.end());
    const MatrixView view{
        .data = y.data(), .dtype = DType::kF32, .rows = 1, .cols = n, .stride = n};
    (*device)->ops().hadamard({.x = view,
                               .signs = signs.data(),
                               .block = block.data(),
                               .block_size = 3,
                               .transposed = inverse,
                               .out = view},
                              (*device)->stream());
    inverse ? t->ApplyInverse(expected.data()) : t->Apply(expected.data());
    // Sums of numbers of magnitude 3: one rounding a level, five levels and a block of three.
    for (int64_t i = 0; i < n; ++i) EXPECT_NEAR(y[i], expected[i], 8 * 8 * 3 * 0x1p-24) << i;
  }
}

TEST(HadamardTest, SignsComeFromTheSeed) {
  std::vector<StoredTensor> a, b, c;
  HadamardTransform::Random(64, 1)->Store("t", false, &a);
  HadamardTransform::Random(64, 1)->Store("t", false, &b);
  HadamardTransform::Random(64, 2)->Store("t", false, &c);
  ASSERT_EQ(a.size(), 1u) << "a power of two has no block";
  EXPECT_EQ(a[0].dtype, DType::kI8);
  EXPECT_EQ(a[0].bytes, b[0].bytes);
  EXPECT_NE(a[0].bytes, c[0].bytes);
}

TEST(HadamardTest, RefusesAnOddPartThatTheEngineCannotRun) {
  const auto t = HadamardTransform::Random(2 * 1031, 1);
  EXPECT_EQ(t.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(t.status().message()), HasSubstr("--hadamard 0"));
}

}  // namespace
}  // namespace rankine
