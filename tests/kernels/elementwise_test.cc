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
  for (int64_t n : {127, 128, 129, 576, 1536, 4099}) widths.push_back(n);
  return widths;
}

// |got - want| <= tolerance x |want| + floor everywhere.
void ExpectClose(TestMatrix* got, TestMatrix* want, double tolerance, double floor) {
  const MatrixView v = want->view();
  for (int64_t r = 0; r < v.rows; ++r) {
    for (int64_t c = 0; c < v.cols; ++c) {
      const double w = want->Get(r, c);
      ASSERT_NEAR(got->Get(r, c), w, tolerance * std::fabs(w) + floor) << r << ", " << c;
    }
  }
  EXPECT_TRUE(got->PadsAreZero());
  EXPECT_TRUE(got->GuardsAreIntact());
}

// A result may be off by its own rounding and the reference's.
double Tolerance(DType out, double computing) { return computing + 2 * StoreError(out); }

// Each op is called as run(table, inputs, out, stream) for every width, dtype and table.
template <class Run>
void CompareWithReference(double (*computing_error)(int64_t n), double floor, Run&& run) {
  std::mt19937 rng(7);
  for (const OpTable* table : AllTables()) {
    for (const int64_t n : Widths()) {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        SCOPED_TRACE(testing::Message() << table->name << " n=" << n << " " << Name(dtype));
        const int64_t rows = 1 + n % 3;
        TestMatrix a(DType::kF32, rows, n, n % 5);
        TestMatrix b(DType::kF32, rows, n, n % 3);
        a.FillRandom(&rng, 3.0f);
        b.FillRandom(&rng);
        TestMatrix got(dtype, rows, n, n % 7);
        TestMatrix want(DType::kF32, rows, n);
        run(*table, a, b, got.view());
        run(RefOps(), a, b, want.view());
        ExpectClose(&got, &want, Tolerance(dtype, computing_error(n)), floor);
      }
    }
  }
}

TEST(RmsNorm, EqualsReference) {
  // The sum of squares runs in at least 4 x 8 chains; the root halves its relative error; then come
  // the division by n, the root, the reciprocal and two products.
  const auto error = [](int64_t n) {
    return ((static_cast<double>(n) / 32 + 10) / 2 + 5) * kRoundF32;
  };
  CompareWithReference(
      error, 0, [](const OpTable& t, TestMatrix& a, TestMatrix& b, MatrixView out) {
        t.rms_norm({.x = a.view(), .weight = b.row(0), .eps = 1e-5f, .out = out}, Stream{});
      });
}

TEST(SiluMul, EqualsReference) {
  // e^x within 2.5 roundings, then a sum, a quotient and a product.
  const auto error = [](int64_t) { return 6 * kRoundF32; };
  CompareWithReference(error, 0,
                       [](const OpTable& t, TestMatrix& a, TestMatrix& b, MatrixView out) {
                         t.silu_mul({.gate = a.view(), .up = b.view(), .out = out}, Stream{});
                       });
}

TEST(Convert, RoundsAsToBF16Does) {
  std::mt19937 rng(3);
  const float inf = std::numeric_limits<float>::infinity();
  for (const OpTable* table : AllTables()) {
    for (const int64_t n : Widths()) {
      TestMatrix x(DType::kF32, 2, n, 1);
      for (int64_t r = 0; r < 2; ++r) {
        for (int64_t c = 0; c < n; ++c) x.row(r)[c] = std::bit_cast<float>(uint32_t(rng()));
      }
      x.row(0)[0] = inf;
      x.row(1)[0] = std::numeric_limits<float>::quiet_NaN();
      TestMatrix narrow(DType::kBF16, 2, n, 3);
      TestMatrix same(DType::kF32, 2, n, 2);
      table->convert({.x = x.view(), .out = narrow.view()}, Stream{});
      table->convert({.x = x.view(), .out = same.view()}, Stream{});
      for (int64_t r = 0; r < 2; ++r) {
        for (int64_t c = 0; c < n; ++c) {
          const float from = x.row(r)[c];
          if (std::isnan(from)) {
            EXPECT_TRUE(std::isnan(narrow.Get(r, c)) && std::isnan(same.Get(r, c)));
            continue;
          }
          EXPECT_EQ(narrow.view().Row<BF16>(r)[c].bits, ToBF16(from).bits) << table->name << from;
          EXPECT_EQ(same.row(r)[c], from);
        }
      }
      EXPECT_TRUE(narrow.PadsAreZero() && narrow.GuardsAreIntact());
      EXPECT_TRUE(same.PadsAreZero() && same.GuardsAreIntact());
    }
  }
}

TEST(SiluMul, HoldsOverTheWholeRangeOfGates) {
  const int64_t n = 4000;
  for (const OpTable* table : AllTables()) {
    TestMatrix gate(DType::kF32, 1, n);
    TestMatrix up(DType::kF32, 1, n);
    TestMatrix got(DType::kF32, 1, n);
    TestMatrix want(DType::kF32, 1, n);
    for (int64_t i = 0; i < n; ++i) {
      gate.row(0)[i] = -120.0f + 240.0f * static_cast<float>(i) / n;
      up.row(0)[i] = 1.0f;
    }
    table->silu_mul({.gate = gate.view(), .up = up.view(), .out = got.view()}, Stream{});
    RefOps().silu_mul({.gate = gate.view(), .up = up.view(), .out = want.view()}, Stream{});
    // Below -88 e^-v is infinite in f32 and the result 0, as in PyTorch; the true one is under 120
    // e^-88.
    ExpectClose(&got, &want, 8 * kRoundF32, 120 * std::exp(-88.0));
  }
}

TEST(SiluMul, PassesFaultsOn) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const OpTable* table : AllTables()) {
    TestMatrix gate(DType::kF32, 1, 3);
    TestMatrix up(DType::kF32, 1, 3);
    std::mt19937 rng(1);
    gate.FillRandom(&rng);
    gate.row(0)[0] = std::numeric_limits<float>::quiet_NaN();
    gate.row(0)[1] = inf;
    gate.row(0)[2] = -1e30f;
    for (int64_t c = 0; c < up.stride(); ++c) up.row(0)[c] = 2.0f;
    TestMatrix out(DType::kF32, 1, 3);
    table->silu_mul({.gate = gate.view(), .up = up.view(), .out = out.view()}, Stream{});
    EXPECT_TRUE(std::isnan(out.row(0)[0])) << table->name;
    EXPECT_EQ(out.row(0)[1], inf) << table->name;
    EXPECT_EQ(out.row(0)[2], 0.0f) << table->name;
  }
}

TEST(SiluMul, MayOverwriteItsGate) {
  std::mt19937 rng(5);
  for (const OpTable* table : AllTables()) {
    TestMatrix gate(DType::kF32, 5, 83, 1);
    TestMatrix up(DType::kF32, 5, 83);
    gate.FillRandom(&rng);
    up.FillRandom(&rng);
    TestMatrix out(DType::kF32, 5, 83);
    table->silu_mul({.gate = gate.view(), .up = up.view(), .out = out.view()}, Stream{});
    table->silu_mul({.gate = gate.view(), .up = up.view(), .out = gate.view()}, Stream{});
    for (int64_t r = 0; r < 5; ++r) {
      EXPECT_EQ(std::memcmp(out.row(r), gate.row(r), sizeof(float) * 83), 0) << table->name;
    }
  }
}

// Enough rows that the pool shares them out.
TEST(Elementwise, ARowDoesNotDependOnItsBatchOrOnThreads) {
  const int64_t rows = 129;
  const int64_t n = 577;
  std::mt19937 rng(11);
  TestMatrix x(DType::kF32, rows, n);
  TestMatrix up(DType::kF32, rows, n);
  x.FillRandom(&rng);
  up.FillRandom(&rng);
  for (const OpTable* table : CpuOpTables()) {
    for (int threads = 1; threads <= 4; ++threads) {
      ThreadPool pool(threads);
      TestMatrix norm(DType::kBF16, rows, n);
      TestMatrix silu(DType::kF32, rows, n);
      table->rms_norm({.x = x.view(), .weight = up.row(0), .eps = 1e-6f, .out = norm.view()},
                      Stream{&pool});
      table->silu_mul({.gate = x.view(), .up = up.view(), .out = silu.view()}, Stream{&pool});
      TestMatrix norm_alone(DType::kBF16, rows, n);
      TestMatrix silu_alone(DType::kF32, rows, n);
      for (int64_t r = 0; r < rows; ++r) {
        table->rms_norm(
            {.x = x.row_view(r), .weight = up.row(0), .eps = 1e-6f, .out = norm_alone.row_view(r)},
            Stream{});
        table->silu_mul(
            {.gate = x.row_view(r), .up = up.row_view(r), .out = silu_alone.row_view(r)}, Stream{});
      }
      EXPECT_EQ(norm.bytes(), norm_alone.bytes()) << table->name << " " << threads;
      EXPECT_EQ(silu.bytes(), silu_alone.bytes()) << table->name << " " << threads;
    }
  }
}

}  // namespace
}  // namespace rankine
