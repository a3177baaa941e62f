// Quantised rows, permutations, and products over one leg of a tensor.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "kernels/api/quantized_rows.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/op_table.h"
#include "tests/kernels/op_table_testing.h"
#include "tests/testing/products_testing.h"

namespace rankine {
namespace {

class TransformTest : public testing::TestWithParam<const OpTable*> {};

std::vector<QuantizedRecord> Quantize(const OpTable& ops, const MatrixView& x) {
  std::vector<QuantizedRecord> records(x.rows * CeilDiv(x.cols, kRecordColumns));
  ops.convert({.x = x,
               .out = {.data = records.data(),
                       .dtype = DType::kI8,
                       .rows = x.rows,
                       .cols = x.cols,
                       .stride = QuantizedRowBytes(x.cols)}},
              {});
  return records;
}

TEST_P(TransformTest, QuantisedRowsMatchTheReferenceAndTheirDefinition) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    for (int64_t cols : {1, 15, 63, 64, 65, 100, 576}) {
      std::mt19937 rng(5);
      TestMatrix x(dtype, 3, cols, RoundUp(cols, kColumnPad) + 16);
      x.FillNormal(rng);
      for (int64_t c = 0; c < std::min<int64_t>(cols, 64); ++c) SetElement(x.view, 1, c, 0);
      const auto actual = Quantize(*GetParam(), x.view);
      const auto expected = Quantize(RefOps(), x.view);
      for (size_t i = 0; i < actual.size(); ++i) {
        EXPECT_EQ(actual[i].scale, expected[i].scale);
        int sum = 0;
        for (int64_t c = 0; c < kRecordColumns; ++c) {
          // The largest rounding difference: a quotient next to a tie.
          EXPECT_NEAR(actual[i].codes[c], expected[i].codes[c], 1);
          sum += actual[i].codes[c];
          const int64_t column = static_cast<int64_t>(i) % CeilDiv(cols, 64) * 64 + c;
          const int64_t row = static_cast<int64_t>(i) / CeilDiv(cols, 64);
          const float value = column < cols ? GetElement(x.view, row, column) : 0;
          EXPECT_NEAR(actual[i].scale * actual[i].codes[c], value, 0.5001f * actual[i].scale);
        }
        EXPECT_EQ(actual[i].minus_sum64, -sum);
        EXPECT_EQ(actual[i].minus_sums32[0] + actual[i].minus_sums32[1], -sum);
        EXPECT_EQ(std::accumulate(actual[i].minus_sums16, actual[i].minus_sums16 + 4, 0), -sum);
        EXPECT_EQ(actual[i].minus_sums16[2] + actual[i].minus_sums16[3], actual[i].minus_sums32[1]);
      }
    }
  }
}

TEST_P(TransformTest, NormAndSiluWriteBothForms) {
  const int64_t cols = 150, stride = 160, rows = 4;
  const std::vector<float> gate = NormalValues(rows * stride, 1),
                           up = NormalValues(rows * stride, 2);
  const MatrixView g{const_cast<float*>(gate.data()), DType::kF32, rows, cols, stride};
  const MatrixView u{const_cast<float*>(up.data()), DType::kF32, rows, cols, stride};
  std::vector<float> plain(rows * stride), both(rows * stride);
  std::vector<QuantizedRecord> records(rows * 3), alone(rows * 3);
  const MatrixView out{both.data(), DType::kF32, rows, cols, stride};
  const MatrixView q{records.data(), DType::kI8, rows, cols, QuantizedRowBytes(cols)};
  MatrixView only = q;
  only.data = alone.data();
  const MatrixView floats{plain.data(), DType::kF32, rows, cols, stride};
  auto expect_same = [&] {
    EXPECT_EQ(both, plain);
    const auto expected = Quantize(*GetParam(), floats);
    const size_t bytes = records.size() * sizeof(QuantizedRecord);
    EXPECT_EQ(std::memcmp(records.data(), expected.data(), bytes), 0);
    EXPECT_EQ(std::memcmp(alone.data(), expected.data(), bytes), 0);
  };
  GetParam()->rms_norm({.x = g, .weight = up.data(), .eps = 1e-5f, .out = floats}, {});
  GetParam()->rms_norm({.x = g, .weight = up.data(), .eps = 1e-5f, .out = out, .quantized = q}, {});
  GetParam()->rms_norm({.x = g, .weight = up.data(), .eps = 1e-5f, .quantized = only}, {});
  expect_same();
  GetParam()->silu_mul({.gate = g, .up = u, .out = floats}, {});
  GetParam()->silu_mul({.gate = g, .up = u, .out = out, .quantized = q}, {});
  GetParam()->silu_mul({.gate = g, .up = u, .quantized = only}, {});
  expect_same();
}

TEST_P(TransformTest, Permutes) {
  const int64_t n = 37, stride = 48;
  std::vector<int32_t> indices(n);
  std::iota(indices.begin(), indices.end(), 0);
  std::shuffle(indices.begin(), indices.end(), std::mt19937(1));
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    std::mt19937 rng(2);
    TestMatrix x(dtype, 2, n, stride);
    x.FillNormal(rng);
    std::vector<float> out(2 * stride, NAN);
    GetParam()->permute(
        {.x = x.view, .indices = indices.data(), .out = {out.data(), DType::kF32, 2, n, stride}},
        {});
    for (int64_t r = 0; r < 2; ++r) {
      for (int64_t i = 0; i < stride; ++i) {
        EXPECT_EQ(out[r * stride + i], i < n ? GetElement(x.view, r, indices[i]) : 0.0f);
      }
    }
  }
}

// A product over the innermost leg of [tokens][rows][k] whose columns [n / run][run] move in front
// of the rows, against the reference; nothing else in y is touched.
TEST_P(TransformTest, ProductsOverOneLegOfATensor) {
  ThreadPool pool(2);
  for (DType y_type : {DType::kF32, DType::kBF16}) {
    for (int64_t run : {0, 1, 3, 16, 24, 48}) {
      for (int64_t rows : {1, 5, 30}) {
        for (int64_t tokens : {1, 4}) {
          const int64_t n = 48, k = 20, piece = run == 0 ? n : run;
          TestProduct p({.tokens = tokens * rows,
                         .n = n,
                         .k = k,
                         .weights = DType::kBF16,
                         .x = DType::kF32,
                         .scale = true,
                         .bias = true});
          const int64_t stride = n * rows + 5;
          TestMatrix actual(y_type, tokens, n * rows, stride);
          for (int64_t t = 0; t < tokens; ++t) {
            for (int64_t i = 0; i < stride; ++i) SetElement(actual.view, t, i, 7);
          }
          p.product.rows_per_token = rows;
          p.product.run = run;
          p.product.run_stride = rows * piece;
          p.product.accumulate = y_type == DType::kF32 && run == 3;
          TestMatrix expected(DType::kF32, tokens, n * rows, stride);
          for (int64_t t = 0; t < tokens; ++t) {
            for (int64_t i = 0; i < stride; ++i) SetElement(expected.view, t, i, 7);
          }
          p.product.y = expected.view;
          RefOps().products({.products = &p.product, .num_products = 1, .num_tokens = tokens}, {});
          p.product.y = actual.view;
          GetParam()->products({.products = &p.product, .num_products = 1, .num_tokens = tokens},
                               Stream{&pool});
          for (int64_t t = 0; t < tokens; ++t) {
            for (int64_t i = 0; i < stride; ++i) {
              const double want = GetElement(expected.view, t, i);
              const double tolerance =
                  (y_type == DType::kBF16 ? 0x1p-8 : 1e-5) * (1 + std::abs(want));
              ASSERT_NEAR(GetElement(actual.view, t, i), want, i < n * rows ? tolerance : 0)
                  << "run " << run << " rows " << rows << " token " << t << " element " << i;
            }
          }
        }
      }
    }
  }
}

TEST_P(TransformTest, AddsBiasAndWhatIsThere) {
  ThreadPool pool(2);
  for (const int64_t cols : {1, 15, 16, 33, 100}) {
    std::mt19937 rng(3);
    TestMatrix x(DType::kF32, 3, cols, RoundUp(cols, kColumnPad));
    x.FillNormal(rng);
    const std::vector<float> bias = NormalValues(cols, 4);
    for (const bool biased : {false, true}) {
      for (const bool accumulate : {false, true}) {
        TestMatrix y(DType::kF32, 3, cols, RoundUp(cols, kColumnPad));
        for (int64_t i = 0; i < 3 * y.view.stride; ++i) y.view.Row<float>(0)[i] = 2.5f;
        GetParam()->add({.x = x.view,
                         .bias = biased ? bias.data() : nullptr,
                         .y = y.view,
                         .accumulate = accumulate},
                        Stream{&pool});
        for (int64_t t = 0; t < 3; ++t) {
          for (int64_t i = 0; i < y.view.stride; ++i) {
            float want = 0;
            if (i < cols) want = GetElement(x.view, t, i) + (biased ? bias[i] : 0.0f);
            if (i < cols && accumulate) want += 2.5f;
            ASSERT_EQ(y.view.Row<float>(t)[i], want) << cols << " columns, element " << i;
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, TransformTest, testing::ValuesIn(CpuOpTables()), OpTableName);

}  // namespace
}  // namespace rankine
