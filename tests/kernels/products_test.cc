// Products of every op table against the reference.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/cpu/thread_pool.h"
#include "tests/kernels/op_table_testing.h"
#include "tests/testing/products_testing.h"

namespace rankine {
namespace {

constexpr DType kWeightTypes[] = {DType::kF32, DType::kF16, DType::kBF16};
constexpr DType kFloatTypes[] = {DType::kF32, DType::kBF16};

// Runs the product and its reference and compares every element, pads included.
void ExpectMatchesReference(const OpTable& ops, const ProductSpec& spec, Stream stream = {}) {
  SCOPED_TRACE(std::string(ops.name) + ": " + ToString(spec));
  TestProduct actual(spec), expected(spec);
  // The reference writes f32, so that only one side is rounded to the type of y.
  TestMatrix exact(DType::kF32, spec.tokens, spec.n, RoundUp(spec.n, kColumnPad));
  Product reference = expected.product;
  if (spec.accumulate) {
    exact = expected.y;
  } else {
    reference.y = exact.view;
  }
  RefOps().products({.products = &reference, .num_products = 1, .num_tokens = spec.tokens}, {});
  if (!spec.accumulate) {
    // Whatever y held before must not matter.
    for (int64_t t = 0; t < spec.tokens; ++t) {
      for (int64_t i = 0; i < actual.y.view.stride; ++i) {
        SetElement(actual.y.view, t, i, std::numeric_limits<float>::quiet_NaN());
      }
    }
  }
  ops.products({.products = &actual.product, .num_products = 1, .num_tokens = spec.tokens}, stream);
  for (int64_t t = 0; t < spec.tokens; ++t) {
    for (int64_t i = 0; i < RoundUp(spec.n, kBlockRows); ++i) {
      const double want = i < spec.n ? GetElement(exact.view, t, i) : 0;
      const double tolerance = i < spec.n ? actual.Tolerance(t, i, want) : 0;
      ASSERT_NEAR(GetElement(actual.y.view, t, i), want, tolerance)
          << "token " << t << " row " << i;
    }
  }
}

class ProductsTest : public testing::TestWithParam<const OpTable*> {};

TEST_P(ProductsTest, SmallSizes) {
  for (DType weights : kWeightTypes) {
    for (DType x : kFloatTypes) {
      for (int64_t k : {0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 40}) {
        for (int64_t n : {0, 1, 2, 15, 16, 17, 31, 33, 40, 65, 130}) {
          for (int64_t tokens : {0, 1, 2, 3}) {
            ExpectMatchesReference(*GetParam(),
                                   {.tokens = tokens, .n = n, .k = k, .weights = weights, .x = x});
          }
        }
      }
    }
  }
}

TEST_P(ProductsTest, EveryNumberOfTokens) {
  for (DType weights : kWeightTypes) {
    for (DType x : kFloatTypes) {
      for (int64_t tokens = 1; tokens <= 33; ++tokens) {
        for (int64_t k : {37, 64}) {
          ExpectMatchesReference(*GetParam(),
                                 {.tokens = tokens, .n = 83, .k = k, .weights = weights, .x = x});
        }
      }
    }
  }
}

TEST_P(ProductsTest, EpilogueAndMisalignment) {
  for (DType weights : kWeightTypes) {
    for (DType x : kFloatTypes) {
      for (DType y : kFloatTypes) {
        for (int flags = 0; flags < 8; ++flags) {
          if (y == DType::kBF16 && (flags & 4) != 0) continue;
          for (int64_t tokens : {1, 5, 14}) {
            ExpectMatchesReference(*GetParam(), {.tokens = tokens,
                                                 .n = 41,
                                                 .k = 35,
                                                 .weights = weights,
                                                 .x = x,
                                                 .y = y,
                                                 .scale = (flags & 1) != 0,
                                                 .bias = (flags & 2) != 0,
                                                 .accumulate = (flags & 4) != 0,
                                                 .misalign = 1 + flags});
          }
        }
      }
    }
  }
}

// Several slabs of k, several panels of tokens, several groups of blocks, and a group's remainder.
TEST_P(ProductsTest, ManySlabsAndPanels) {
  ThreadPool pool(2);
  for (DType weights : kWeightTypes) {
    for (DType x : kFloatTypes) {
      ExpectMatchesReference(*GetParam(),
                             {.tokens = 2, .n = 50, .k = 2501, .weights = weights, .x = x},
                             Stream{&pool});
      ExpectMatchesReference(*GetParam(),
                             {.tokens = 200, .n = 150, .k = 1201, .weights = weights, .x = x},
                             Stream{&pool});
    }
  }
}

// One call with products of different shapes and dtypes, more of them than fit in one region.
TEST_P(ProductsTest, ManyProductsInOneCall) {
  ThreadPool pool(3);
  for (int64_t tokens : {1, 3, 20}) {
    std::vector<TestProduct> parts, expected;
    for (uint32_t i = 0; i < 70; ++i) {
      const ProductSpec spec{.tokens = tokens,
                             .n = 16 + 5 * (i % 9),
                             .k = 20 + 7 * (i % 11),
                             .weights = kWeightTypes[i % 3],
                             .x = kFloatTypes[i % 2],
                             .bias = i % 5 == 0,
                             .seed = i};
      parts.emplace_back(spec);
      expected.emplace_back(spec);
    }
    std::vector<Product> products, references;
    for (size_t i = 0; i < parts.size(); ++i) {
      products.push_back(parts[i].product);
      references.push_back(expected[i].product);
    }
    GetParam()->products({.products = products.data(), .num_products = 70, .num_tokens = tokens},
                         Stream{&pool});
    RefOps().products({.products = references.data(), .num_products = 70, .num_tokens = tokens},
                      {});
    for (size_t i = 0; i < parts.size(); ++i) {
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t row = 0; row < parts[i].spec.n; ++row) {
          const double want = GetElement(expected[i].y.view, t, row);
          ASSERT_NEAR(GetElement(parts[i].y.view, t, row), want, parts[i].Tolerance(t, row, want))
              << "product " << i << ": " << ToString(parts[i].spec);
        }
      }
    }
  }
}

// A rank prefix of a factor: fewer rows or fewer columns of the same packed buffer.
TEST_P(ProductsTest, PrefixOfRowsAndColumns) {
  TestProduct whole({.tokens = 3, .n = 64, .k = 96, .weights = DType::kBF16});
  Product part = whole.product;
  part.weights.n = 32;
  part.weights.k = 48;
  TestMatrix actual(DType::kF32, 3, 32, 32), expected(DType::kF32, 3, 32, 32);
  part.y = actual.view;
  GetParam()->products({.products = &part, .num_products = 1, .num_tokens = 3}, {});
  part.y = expected.view;
  RefOps().products({.products = &part, .num_products = 1, .num_tokens = 3}, {});
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t row = 0; row < 32; ++row) {
      const double want = GetElement(expected.view, t, row);
      EXPECT_NEAR(GetElement(actual.view, t, row), want, whole.Tolerance(t, row, want));
    }
  }
}

// bf16 outputs round to nearest even exactly as ToBF16 does: ties, overflow to infinity, NaN.
TEST_P(ProductsTest, BF16OutputRoundsLikeToBF16) {
  const std::vector<float> values = {1.0f,
                                     1.00390625f,
                                     1.01171875f,
                                     -1.00390625f,
                                     3.4e38f,
                                     -3.4e38f,
                                     std::numeric_limits<float>::quiet_NaN(),
                                     std::numeric_limits<float>::infinity(),
                                     1e-3f,
                                     0.1f,
                                     65535.5f,
                                     -0.3f,
                                     5.0f,
                                     7.1f,
                                     1e-30f,
                                     2.5f};
  TestProduct p({.tokens = 1, .n = 16, .k = 0, .y = DType::kBF16, .bias = true});
  p.bias = values;
  p.product.bias = p.bias.data();
  GetParam()->products({.products = &p.product, .num_products = 1, .num_tokens = 1}, {});
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(p.y.view.Row<BF16>(0)[i].bits, ToBF16(values[i]).bits) << values[i];
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, ProductsTest, testing::ValuesIn(CpuOpTables()), OpTableName);

}  // namespace
}  // namespace rankine
