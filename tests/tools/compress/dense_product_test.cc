#include "tools/compress/dense_product.h"

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/encode/encoding_name.h"
#include "tools/compress/methods/store.h"

namespace rankine {
namespace {

std::vector<double> Floats(int64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<double> values(count);
  for (double& v : values) v = normal(random);
  return values;
}

// A matrix of one term, its numbers kept beside what is stored.
struct Made {
  FactoredMatrix matrix;
  std::vector<StoredTensor> tensors;
  std::vector<std::vector<double>> values;

  void Add(Term* term, const char* name, std::vector<LegRange> legs,
           const std::string& encoding = "f32") {
    int64_t count = 1;
    for (const LegRange& leg : legs) count *= leg.extent;
    values.push_back(Floats(count, values.size() + 1));
    ASSERT_TRUE(AddCore({.matrix = "l",
                         .name = name,
                         .legs = legs,
                         .encoding = *ParseEncoding(encoding),
                         .values = values.back()},
                        term, &tensors)
                    .ok());
  }
  Matrix64 Product() const { return *DenseProduct(matrix, StoredTensorSource(tensors)); }
};

double Distance(const Matrix64& a, const Matrix64& b) {
  return std::sqrt(SquaredNorm(Difference(a, b)));
}

TEST(DenseProductTest, ContractsAnMpo) {
  const int64_t o1 = 3, o2 = 4, i1 = 5, i2 = 2, x = 6;
  Made made{.matrix = {.name = "l",
                       .out_features = o1 * o2,
                       .in_features = i1 * i2,
                       .output_legs = {{"o1", o1}, {"o2", o2}},
                       .input_legs = {{"i1", i1}, {"i2", i2}}}};
  Term term;
  made.Add(&term, "C1", {{"o1", 0, o1}, {"i1", 0, i1}, {"x", 0, x}});
  made.Add(&term, "C2", {{"x", 0, x}, {"o2", 0, o2}, {"i2", 0, i2}});
  made.matrix.terms = {term};
  Matrix64 expected(o1 * o2, i1 * i2);
  const auto& a = made.values[0];
  const auto& b = made.values[1];
  for (int64_t p = 0; p < o1; ++p)
    for (int64_t q = 0; q < o2; ++q)
      for (int64_t r = 0; r < i1; ++r)
        for (int64_t s = 0; s < i2; ++s)
          for (int64_t k = 0; k < x; ++k)
            expected(p * o2 + q, r * i2 + s) += a[(p * i1 + r) * x + k] * b[(k * o2 + q) * i2 + s];
  EXPECT_LT(Distance(made.Product(), expected), 1e-13 * std::sqrt(SquaredNorm(expected)));
  const StoredSize size = SizeOfStored({&made.matrix, 1}, made.tensors);
  EXPECT_EQ(size.parameters, o1 * i1 * x + x * o2 * i2);
  EXPECT_EQ(size.bits, 32 * size.parameters);
}

TEST(DenseProductTest, AddsTermsAndDecodesBlocks) {
  const int64_t m = 8, n = 64, r = 3;
  Made made{.matrix = {.name = "l",
                       .out_features = m,
                       .in_features = n,
                       .output_legs = {{"o", m}},
                       .input_legs = {{"i", n}}}};
  Term q, lr;
  made.Add(&q, "Q", {{"o", 0, m}, {"i", 0, n}}, "int8:g32");
  made.Add(&lr, "L", {{"o", 0, m}, {"r", 0, r}});
  made.Add(&lr, "S", {{"r", 0, r}}, "int8:g32");  // a vector is f32 whatever is asked
  made.Add(&lr, "R", {{"r", 0, r}, {"i", 0, n}});
  made.matrix.terms = {q, lr};
  Matrix64 expected(m, n);
  double largest = 0;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      expected(i, j) = made.values[0][i * n + j];
      largest = std::max(largest, std::abs(expected(i, j)));
      for (int64_t k = 0; k < r; ++k) {
        expected(i, j) += made.values[1][i * r + k] * made.values[2][k] * made.values[3][k * n + j];
      }
    }
  }
  const Matrix64 product = made.Product();
  // A group's step is at most its largest weight / 127, and f16 scales are off by 2^-11.
  for (size_t i = 0; i < expected.values.size(); ++i) {
    EXPECT_NEAR(product.values[i], expected.values[i], largest / 127 * 0.51 + largest * 0x1p-11);
  }
  EXPECT_GT(Distance(product, expected), 0);
  const StoredSize size = SizeOfStored({&made.matrix, 1}, made.tensors);
  EXPECT_EQ(size.parameters, m * n + r * (m + n)) << "S is not counted";
  EXPECT_EQ(size.bits, m * n * 8 + m * 2 * 16 + 32 * (r * (m + n) + r));
}

// W' x by its definition: T on x, the core, P on the result.
TEST(DenseProductTest, AppliesTransforms) {
  const int64_t m = 8, n = 12;  // 12 = 2^2 x 3
  Made made{.matrix = {.name = "l",
                       .out_features = m,
                       .in_features = n,
                       .output_legs = {{"o", m}},
                       .input_legs = {{"i", n}}}};
  Term term;
  made.Add(&term, "W", {{"o", 0, m}, {"i", 0, n}});
  made.matrix.terms = {term};
  // An orthogonal 3 x 3 block that is not symmetric: a rotation of the axes and of a plane.
  const double c = 0.6, s = 0.8;
  const std::vector<double> block = {0, c, -s, 0, s, c, 1, 0, 0};
  std::vector<double> in_signs, out_signs;
  for (int i = 0; i < n; ++i) in_signs.push_back(i % 3 == 1 ? -1 : 1);
  for (int i = 0; i < m; ++i) out_signs.push_back(i % 4 < 2 ? -1 : 1);
  const std::vector<double> indices = {3, 1, 4, 0, 5, 2, 7, 6};
  made.tensors.push_back(*StoreValues("in_signs", DType::kI8, {n}, in_signs));
  made.tensors.push_back(*StoreValues("block", DType::kF32, {3, 3}, block));
  made.tensors.push_back(*StoreValues("out_signs", DType::kI8, {m}, out_signs));
  made.tensors.push_back(*StoreValues("indices", DType::kI32, {m}, indices));
  using Kind = Transform::Kind;
  made.matrix.input_transforms = {
      {.kind = Kind::kHadamard, .tensor = "in_signs", .block_tensor = "block"}};
  made.matrix.output_transforms = {
      {.kind = Kind::kHadamard, .tensor = "out_signs", .transposed = true},
      {.kind = Kind::kPermutation, .tensor = "indices"}};

  const auto hadamard = [](int64_t i, int64_t j) {
    return __builtin_popcountll(i & j) % 2 ? -1 : 1;
  };
  const std::vector<double> x = Floats(n, 99);
  std::vector<double> t(n), y(m), z(m);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      t[i] += hadamard(i / 3, j / 3) * block[i % 3 * 3 + j % 3] * in_signs[j] * x[j] / 2;
    }
  }
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) y[i] += made.values[0][i * n + j] * t[j];
  }
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < m; ++j) z[i] += out_signs[i] * hadamard(i, j) * y[j] / std::sqrt(8.0);
  }
  const Matrix64 product = made.Product();
  for (int64_t k = 0; k < m; ++k) {
    double value = 0;
    for (int64_t j = 0; j < n; ++j) value += product(k, j) * x[j];
    EXPECT_NEAR(value, z[static_cast<int64_t>(indices[k])], 1e-6) << k;  // the block is f32
  }
}

TEST(DenseProductTest, NamesAMissingTensor) {
  Made made{.matrix = {.name = "l",
                       .out_features = 2,
                       .in_features = 2,
                       .output_legs = {{"o", 2}},
                       .input_legs = {{"i", 2}}}};
  Term term;
  made.Add(&term, "W", {{"o", 0, 2}, {"i", 0, 2}});
  made.matrix.terms = {term};
  EXPECT_THAT(std::string(DenseProduct(made.matrix, StoredTensorSource({})).status().message()),
              ::testing::HasSubstr("l.W is missing"));
}

TEST(StoredTensorTest, RefusesWhatItsTypeCannotHold) {
  EXPECT_FALSE(StoreValues("t", DType::kF16, {1}, std::vector<double>{1e6}).ok());
  EXPECT_FALSE(StoreValues("t", DType::kF32, {1}, std::vector<double>{NAN}).ok());
  EXPECT_FALSE(StoreValues("t", DType::kI8, {1}, std::vector<double>{200}).ok());
  EXPECT_FALSE(StoreValues("t", DType::kI32, {1}, std::vector<double>{0.5}).ok());
  EXPECT_TRUE(StoreValues("t", DType::kI32, {1}, std::vector<double>{-7}).ok());
}

}  // namespace
}  // namespace rankine
