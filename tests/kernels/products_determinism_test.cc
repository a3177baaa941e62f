// A row of a product has the same bits whatever the number of tokens, of threads and of products in
// the call.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "kernels/cpu/thread_pool.h"
#include "tests/kernels/op_table_testing.h"
#include "tests/testing/products_testing.h"

namespace rankine {
namespace {

constexpr DType kWeightTypes[] = {DType::kF32, DType::kF16, DType::kBF16};
constexpr DType kFloatTypes[] = {DType::kF32, DType::kBF16};

struct Case {
  const OpTable* ops;
  DType weights, x;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const OpTable* ops : CpuOpTables()) {
    for (DType weights : kWeightTypes) {
      for (DType x : kFloatTypes) cases.push_back({ops, weights, x});
    }
  }
  return cases;
}

class ProductsDeterminismTest : public testing::TestWithParam<Case> {
 protected:
  ProductSpec Spec(int64_t tokens, int64_t n, int64_t k) const {
    return {.tokens = tokens,
            .n = n,
            .k = k,
            .weights = GetParam().weights,
            .x = GetParam().x,
            .scale = true,
            .bias = true};
  }

  // Every token's y, computed one token at a time by the calling thread alone.
  TestMatrix OneByOne(const TestProduct& p) const {
    TestMatrix out(DType::kF32, p.spec.tokens, p.spec.n, p.y.view.stride);
    for (int64_t t = 0; t < p.spec.tokens; ++t) {
      MatrixView row = out.view;
      row.data = out.view.Row<float>(t);
      row.rows = 1;
      const Product slice = p.Slice(t, row);
      GetParam().ops->products({.products = &slice, .num_products = 1, .num_tokens = 1}, {});
    }
    return out;
  }

  static void ExpectSameBits(const MatrixView& a, const MatrixView& b, int64_t rows) {
    for (int64_t t = 0; t < rows; ++t) {
      ASSERT_EQ(std::memcmp(a.Row<float>(t), b.Row<float>(t), a.cols * sizeof(float)), 0)
          << "row " << t;
    }
  }
};

TEST_P(ProductsDeterminismTest, AnyNumberOfTokensAndThreads) {
  TestProduct p(Spec(40, 85, 1301));
  const TestMatrix one_by_one = OneByOne(p);
  for (int threads = 1; threads <= 4; ++threads) {
    ThreadPool pool(threads);
    for (int64_t tokens = 1; tokens <= 40; ++tokens) {
      SCOPED_TRACE(std::to_string(tokens) + " tokens, " + std::to_string(threads) + " threads");
      TestMatrix out(DType::kF32, 40, 85, p.y.view.stride);
      // Not only the first rows: where a row stands in the batch must not matter either.
      const int64_t first = 40 - tokens;
      const Product slice = p.Slice(first, out.view);
      GetParam().ops->products({.products = &slice, .num_products = 1, .num_tokens = tokens},
                               Stream{&pool});
      MatrixView want = one_by_one.view;
      want.data = one_by_one.view.Row<float>(first);
      ExpectSameBits(out.view, want, tokens);
    }
  }
}

TEST_P(ProductsDeterminismTest, SeveralPanels) {
  TestProduct p(Spec(410, 40, 530));
  const TestMatrix one_by_one = OneByOne(p);
  ThreadPool pool(2);
  GetParam().ops->products({.products = &p.product, .num_products = 1, .num_tokens = 410},
                           Stream{&pool});
  ExpectSameBits(p.y.view, one_by_one.view, 410);
}

TEST_P(ProductsDeterminismTest, SeveralGroupsOfBlocks) {
  TestProduct p(Spec(40, 1100, 45));
  const TestMatrix one_by_one = OneByOne(p);
  GetParam().ops->products({.products = &p.product, .num_products = 1, .num_tokens = 40}, {});
  ExpectSameBits(p.y.view, one_by_one.view, 40);
}

// Tables flush denormals or keep them, but alike for any number of rows.
TEST_P(ProductsDeterminismTest, ProductsAndSumsThatAreDenormal) {
  TestProduct p(Spec(40, 20, 130));
  std::mt19937 rng(3);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> exponent(-45.0f, -37.0f);
  for (int64_t t = 0; t < 40; ++t) {
    for (int64_t c = 0; c < 130; ++c) {
      SetElement(p.x.view, t, c, normal(rng) * std::pow(10.0f, exponent(rng)));
    }
  }
  p.spec.bias = false;
  p.product.bias = nullptr;
  const TestMatrix one_by_one = OneByOne(p);
  GetParam().ops->products({.products = &p.product, .num_products = 1, .num_tokens = 40}, {});
  ExpectSameBits(p.y.view, one_by_one.view, 40);
}

TEST_P(ProductsDeterminismTest, NeighboursInTheCall) {
  TestProduct p(Spec(7, 100, 300)), other(Spec(7, 333, 64)), third(Spec(7, 16, 900));
  const TestMatrix one_by_one = OneByOne(p);
  ThreadPool pool(3);
  const Product products[] = {other.product, p.product, third.product};
  GetParam().ops->products({.products = products, .num_products = 3, .num_tokens = 7},
                           Stream{&pool});
  ExpectSameBits(p.y.view, one_by_one.view, 7);
}

// Stacking q, k and v, or gate and up, into one product gives the rows that each gives alone.
TEST_P(ProductsDeterminismTest, StackedRows) {
  TestProduct stacked(Spec(5, 96, 130));
  TestMatrix part(DType::kF32, 5, 32, 32);
  Product second = stacked.product;
  second.weights.data =
      static_cast<char*>(stacked.packed.core.data) + 3 * stacked.packed.core.block_stride;
  second.weights.n = 32;
  second.scale += 48;
  second.bias += 48;
  second.y = part.view;
  GetParam().ops->products({.products = &stacked.product, .num_products = 1, .num_tokens = 5}, {});
  GetParam().ops->products({.products = &second, .num_products = 1, .num_tokens = 5}, {});
  for (int64_t t = 0; t < 5; ++t) {
    ASSERT_EQ(
        std::memcmp(part.view.Row<float>(t), stacked.y.view.Row<float>(t) + 48, 32 * sizeof(float)),
        0);
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, ProductsDeterminismTest, testing::ValuesIn(Cases()),
                         [](const auto& info) {
                           return TestName(std::string(info.param.ops->name) + "_w_" +
                                           std::string(Name(info.param.weights)) + "_x_" +
                                           std::string(Name(info.param.x)));
                         });

}  // namespace
}  // namespace rankine
