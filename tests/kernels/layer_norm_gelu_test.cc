#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/cpu/thread_pool.h"
#include "tests/kernels/matrix_testing.h"

namespace rankine {
namespace {

std::vector<int64_t> Widths() {
  std::vector<int64_t> widths;
  for (int64_t n = 1; n <= 70; ++n) widths.push_back(n);
  for (int64_t n : {127, 128, 129, 384, 1536, 4099}) widths.push_back(n);
  return widths;
}

// What the error of LayerNorm of a row depends on.
struct RowFigures {
  RowFigures(TestMatrix* x, int64_t row, float eps) : n(static_cast<double>(x->cols())) {
    double squares = 0;
    for (int64_t i = 0; i < x->cols(); ++i) mean += x->Get(row, i) / n;
    for (int64_t i = 0; i < x->cols(); ++i) {
      size += std::fabs(x->Get(row, i)) / n;
      squares += std::pow(x->Get(row, i) - mean, 2) / n;
    }
    deviation = std::sqrt(squares + eps);
  }
  double n, mean = 0, size = 0, deviation = 0;
};

// The largest |out - exact| of LayerNorm in f32, for the value x: the mean's sum runs in at least
// 4 x 8 chains, and its error, relative to the mean size of the numbers, is amplified by weight /
// deviation, and raises the variance by its square; the deviation's own relative error is half that
// of a sum of squares; then come the difference, two products, the sum with the bias and the store.
double LayerNormTolerance(const RowFigures& f, double x, double weight, double bias, DType out) {
  const double chain = (f.n / 32 + 10) * kRoundF32;
  const double mean_error = chain * f.size / f.deviation;
  const double normal = std::fabs(x - f.mean) / f.deviation;
  const double w = std::fabs(weight), b = std::fabs(bias);
  return w * mean_error + w * normal * (mean_error * mean_error + chain + 5 * kRoundF32) +
         2 * StoreError(out) * (w * normal + b) + b * kRoundF32;
}

TEST(LayerNorm, EqualsReference) {
  std::mt19937 rng(7);
  for (const OpTable* table : AllTables()) {
    for (const int64_t n : Widths()) {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        SCOPED_TRACE(testing::Message() << table->name << " n=" << n << " " << Name(dtype));
        const float eps = n % 2 == 0 ? 1e-12f : 1e-5f;
        TestMatrix x(DType::kF32, 3, n, n % 5), w(DType::kF32, 2, n, n % 3);
        x.FillRandom(&rng, 3.0f);
        w.FillRandom(&rng);
        // A mean that is large beside the spread.
        for (int64_t i = 0; i < n; ++i) x.row(2)[i] += 500.0f;
        TestMatrix got(dtype, 3, n, n % 7), want(DType::kF32, 3, n);
        LayerNormArgs args{
            .x = x.view(), .weight = w.row(0), .bias = w.row(1), .eps = eps, .out = got.view()};
        table->layer_norm(args, Stream{});
        args.out = want.view();
        RefOps().layer_norm(args, Stream{});
        for (int64_t r = 0; r < 3; ++r) {
          const RowFigures figures(&x, r, eps);
          for (int64_t c = 0; c < n; ++c) {
            const double tolerance =
                LayerNormTolerance(figures, x.Get(r, c), w.Get(0, c), w.Get(1, c), dtype);
            ASSERT_NEAR(got.Get(r, c), want.Get(r, c), tolerance) << r << ", " << c;
          }
        }
        EXPECT_TRUE(got.PadsAreZero());
        EXPECT_TRUE(got.GuardsAreIntact());
      }
    }
  }
}

// By hand: (1, 3) has mean 2 and deviation 1.
TEST(LayerNorm, ReferenceByHand) {
  for (const OpTable* table : AllTables()) {
    TestMatrix x(DType::kF32, 1, 2), w(DType::kF32, 2, 2), out(DType::kF32, 1, 2);
    std::mt19937 rng(1);
    x.FillRandom(&rng);
    w.FillRandom(&rng);
    x.row(0)[0] = 1, x.row(0)[1] = 3;
    w.row(0)[0] = 10, w.row(0)[1] = 100;
    w.row(1)[0] = 5, w.row(1)[1] = 7;
    table->layer_norm({.x = x.view(), .weight = w.row(0), .bias = w.row(1), .out = out.view()},
                      Stream{});
    EXPECT_EQ(out.Get(0, 0), -5.0f) << table->name;
    EXPECT_EQ(out.Get(0, 1), 107.0f) << table->name;
  }
}

// e^x within 2.5 roundings, the polynomial and its argument within 5.2, two corrections, three
// products, a difference; below -13 the tail of f32's normal numbers is reached and the result 0.
constexpr double kGeluError = 13 * kRoundF32;
const double kGeluFloor = 14 * std::exp(-87.0);

TEST(Gelu, EqualsReferenceAtEveryWidth) {
  std::mt19937 rng(7);
  for (const OpTable* table : AllTables()) {
    for (const int64_t n : Widths()) {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        SCOPED_TRACE(testing::Message() << table->name << " n=" << n << " " << Name(dtype));
        TestMatrix x(DType::kF32, 2, n, n % 5), got(dtype, 2, n, n % 7), want(DType::kF32, 2, n);
        x.FillRandom(&rng, 3.0f);
        table->gelu({.x = x.view(), .out = got.view()}, Stream{});
        RefOps().gelu({.x = x.view(), .out = want.view()}, Stream{});
        for (int64_t r = 0; r < 2; ++r) {
          for (int64_t c = 0; c < n; ++c) {
            const double w = want.Get(r, c);
            ASSERT_NEAR(got.Get(r, c), w,
                        (kGeluError + 2 * StoreError(dtype)) * std::fabs(w) + kGeluFloor);
          }
        }
        EXPECT_TRUE(got.PadsAreZero());
        EXPECT_TRUE(got.GuardsAreIntact());
      }
    }
  }
}

TEST(Gelu, HoldsOverTheWholeRange) {
  const int64_t n = 100000;
  for (const OpTable* table : AllTables()) {
    TestMatrix x(DType::kF32, 1, n), got(DType::kF32, 1, n), want(DType::kF32, 1, n);
    for (int64_t i = 0; i < n; ++i)
      x.row(0)[i] = -30.0f + 60.0f * static_cast<float>(i) / static_cast<float>(n);
    table->gelu({.x = x.view(), .out = got.view()}, Stream{});
    RefOps().gelu({.x = x.view(), .out = want.view()}, Stream{});
    for (int64_t i = 0; i < n; ++i) {
      const double w = want.Get(0, i);
      ASSERT_NEAR(got.Get(0, i), w, kGeluError * std::fabs(w) + kGeluFloor) << x.row(0)[i];
    }
  }
}

// Values of scipy.stats.norm.cdf times x.
TEST(Gelu, KnownValues) {
  for (const OpTable* table : AllTables()) {
    TestMatrix x(DType::kF32, 1, 5), out(DType::kF32, 1, 5);
    std::mt19937 rng(1);
    x.FillRandom(&rng);
    const float inputs[] = {1.0f, -1.0f, 0.5f, -6.0f, 0.0f};
    const double expected[] = {0.8413447460685429, -0.15865525393145707, 0.34573123063700656,
                               -5.919525870226183e-09, 0.0};
    std::copy(inputs, inputs + 5, x.row(0));
    table->gelu({.x = x.view(), .out = out.view()}, Stream{});
    for (int i = 0; i < 5; ++i) {
      EXPECT_NEAR(out.Get(0, i), expected[i], kGeluError * std::fabs(expected[i])) << table->name;
    }
  }
}

TEST(Gelu, PassesFaultsOn) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const OpTable* table : AllTables()) {
    TestMatrix x(DType::kF32, 1, 3), out(DType::kF32, 1, 3);
    std::mt19937 rng(1);
    x.FillRandom(&rng);
    x.row(0)[0] = std::numeric_limits<float>::quiet_NaN();
    x.row(0)[1] = inf;
    x.row(0)[2] = -1e30f;
    table->gelu({.x = x.view(), .out = out.view()}, Stream{});
    EXPECT_TRUE(std::isnan(out.row(0)[0])) << table->name;
    EXPECT_EQ(out.row(0)[1], inf) << table->name;
    EXPECT_EQ(out.row(0)[2], 0.0f) << table->name;
  }
}

// In place, in two forms at once, and with enough rows that the pool shares them out.
TEST(LayerNormGelu, RowsDependOnNoOther) {
  const int64_t rows = 129, n = 577;
  std::mt19937 rng(11);
  TestMatrix x(DType::kF32, rows, n), w(DType::kF32, 2, n);
  x.FillRandom(&rng);
  w.FillRandom(&rng);
  for (const OpTable* table : CpuOpTables()) {
    ThreadPool pool(3);
    TestMatrix norm = x, gelu = x, norm_alone(DType::kF32, rows, n), gelu_alone = norm_alone;
    table->layer_norm(
        {.x = norm.view(), .weight = w.row(0), .bias = w.row(1), .eps = 1e-6f, .out = norm.view()},
        Stream{&pool});
    table->gelu({.x = gelu.view(), .out = gelu.view()}, Stream{&pool});
    for (int64_t r = 0; r < rows; ++r) {
      table->layer_norm({.x = x.row_view(r),
                         .weight = w.row(0),
                         .bias = w.row(1),
                         .eps = 1e-6f,
                         .out = norm_alone.row_view(r)},
                        Stream{});
      table->gelu({.x = x.row_view(r), .out = gelu_alone.row_view(r)}, Stream{});
    }
    EXPECT_EQ(norm.bytes(), norm_alone.bytes()) << table->name;
    EXPECT_EQ(gelu.bytes(), gelu_alone.bytes()) << table->name;
  }
}

}  // namespace
}  // namespace rankine
