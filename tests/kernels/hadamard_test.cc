// Hadamard transforms of rows: against the reference over sizes, blocks and dtypes, the same bits
// on every instruction set and thread count, in place, added, quantised.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/api/quantized_rows.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/op_table.h"
#include "tests/kernels/op_table_testing.h"

namespace rankine {
namespace {

class HadamardOpTest : public testing::TestWithParam<const OpTable*> {};

// An orthogonal block that is not symmetric, by columns: Hartley's matrix with its columns rotated.
std::vector<float> Block(int64_t b) {
  std::vector<float> block(b * b);
  for (int64_t i = 0; i < b; ++i) {
    for (int64_t j = 0; j < b; ++j) {
      const double angle = 2 * M_PI * static_cast<double>(i * (j + 1) % b) / static_cast<double>(b);
      block[j * b + i] = static_cast<float>((std::cos(angle) + std::sin(angle)) / std::sqrt(b));
    }
  }
  return block;
}

std::vector<float> Transposed(const std::vector<float>& m, int64_t b) {
  std::vector<float> result(m.size());
  for (int64_t i = 0; i < b; ++i) {
    for (int64_t j = 0; j < b; ++j) result[j * b + i] = m[i * b + j];
  }
  return result;
}

// Rows of a transform's operands. Rows are `stride` apart and start `offset` floats after an
// allocation's beginning, so that no row need lie at the start of a cache line.
struct Rows {
  Rows(int64_t num_rows, int64_t powers, int64_t b, int64_t offset = 0)
      : rows(num_rows),
        n(powers * b),
        stride(RoundUp(n, kColumnPad) + offset),
        start(offset),
        block_size(b),
        x(NormalValues(rows * stride + start, 3)),
        signs(NormalValues(n, 4)),
        bias(NormalValues(n, 5)),
        block(Block(b)),
        inverse(Transposed(block, b)) {
    for (float& s : signs) s = s < 0 ? -1.0f : 1.0f;
  }
  MatrixView View(const std::vector<float>& values) const {
    return {const_cast<float*>(values.data()) + start, DType::kF32, rows, n, stride};
  }
  std::vector<float> Empty(float fill = NAN) const {
    return std::vector<float>(rows * stride + start, fill);
  }
  HadamardArgs Args(bool transposed) const {
    const std::vector<float>& by_columns = transposed ? inverse : block;
    return {.x = View(x),
            .signs = signs.data(),
            .block = block_size == 1 ? nullptr : by_columns.data(),
            .block_size = block_size,
            .transposed = transposed};
  }
  // |A x| of each element, for A orthogonal with rounding u in each of log2(P) butterflies, b
  // products, two scalings and what is added: (log2(P) + b + 5) u times the norm of x, at least.
  double Tolerance() const {
    double most = 0;
    for (int64_t r = 0; r < rows; ++r) {
      double squares = 0;
      for (int64_t i = 0; i < n; ++i) squares += std::pow(View(x).Row<float>(r)[i], 2);
      most = std::max(most, std::sqrt(squares));
    }
    // The reference rounds to f32 as well, and bias and sum may be as large as 5.
    const double steps = std::log2(static_cast<double>(n / block_size)) + block_size + 5;
    return steps * 0x1p-24 * (most + 5);
  }

  int64_t rows, n, stride, start, block_size;
  std::vector<float> x, signs, bias, block, inverse;
};

struct Size {
  int64_t powers, b;
};

// One pass and several of each radix, runs narrower and wider than a vector, one run.
std::vector<Size> Sizes() {
  std::vector<Size> sizes;
  for (int64_t b = 1; b <= 35; ++b) {
    for (const int64_t powers : {1, 2, 4, 8, 16, 32}) sizes.push_back({powers, b});
  }
  for (const int64_t powers : {64, 128, 256, 512, 1024, 2048}) {
    sizes.push_back({powers, 1});
    if (powers <= 512) sizes.push_back({powers, 3});
  }
  for (const int64_t b : {43, 64, 300, 1024}) sizes.push_back({4, b});
  sizes.push_back({64, 9});
  sizes.push_back({256, 5});
  sizes.push_back({32, 43});
  return sizes;
}

std::string NameOf(const Size& size) {
  return std::to_string(size.powers) + " runs of " + std::to_string(size.b);
}

TEST_P(HadamardOpTest, MatchesTheReferenceAndItsInverse) {
  for (const Size& size : Sizes()) {
    const Rows rows(2, size.powers, size.b, size.b % 3);
    std::vector<float> actual = rows.Empty(), expected = rows.Empty(), back = rows.Empty();
    HadamardArgs args = rows.Args(false);
    args.out = rows.View(actual);
    GetParam()->hadamard(args, {});
    args.out = rows.View(expected);
    RefOps().hadamard(args, {});
    args = rows.Args(true);
    args.x = rows.View(actual);
    args.out = rows.View(back);
    GetParam()->hadamard(args, {});
    const double tolerance = rows.Tolerance();
    for (int64_t r = 0; r < rows.rows; ++r) {
      for (int64_t i = 0; i < RoundUp(rows.n, kColumnPad); ++i) {
        const double x = i < rows.n ? rows.View(rows.x).Row<float>(r)[i] : 0;
        ASSERT_NEAR(rows.View(actual).Row<float>(r)[i], rows.View(expected).Row<float>(r)[i],
                    tolerance)
            << NameOf(size) << ", element " << i;
        ASSERT_NEAR(rows.View(back).Row<float>(r)[i], x, 2 * tolerance) << NameOf(size);
      }
    }
    for (int64_t i = 0; i < rows.start; ++i) {
      EXPECT_TRUE(std::isnan(actual[i])) << "written before the first row";
      EXPECT_TRUE(std::isnan(actual[rows.stride + i])) << "written between rows";
    }
  }
}

TEST_P(HadamardOpTest, GivesTheSameBitsOnEveryInstructionSet) {
  const OpTable& first = *CpuOpTables()[0];
  for (const Size& size : Sizes()) {
    for (const bool transposed : {false, true}) {
      const Rows rows(1, size.powers, size.b);
      std::vector<float> actual = rows.Empty(0), expected = rows.Empty(0);
      HadamardArgs args = rows.Args(transposed);
      args.out = rows.View(actual);
      GetParam()->hadamard(args, {});
      args.out = rows.View(expected);
      first.hadamard(args, {});
      ASSERT_EQ(actual, expected) << NameOf(size);
    }
  }
}

TEST_P(HadamardOpTest, RowsDependOnNoOtherRowAndNoThread) {
  ThreadPool pool(3);
  for (const Size& size : {Size{64, 9}, Size{512, 3}, Size{2048, 1}, Size{32, 43}}) {
    for (const bool quantized : {false, true}) {
      const Rows many(13, size.powers, size.b);
      std::vector<float> together = many.Empty(1), alone = together, scratch = many.Empty();
      const int64_t record_bytes = QuantizedRowBytes(many.n);
      std::vector<char> codes(many.rows * record_bytes), codes_alone = codes;
      const auto view = [&](std::vector<char>& to) {
        return MatrixView{to.data(), DType::kI8, many.rows, many.n, record_bytes};
      };
      HadamardArgs args = many.Args(quantized);
      args.scratch = many.View(scratch);
      args.accumulate = !quantized;
      if (quantized) args.quantized = view(codes);
      if (!quantized) args.out = many.View(together);
      GetParam()->hadamard(args, Stream{&pool});
      if (quantized) args.quantized = view(codes_alone);
      if (!quantized) args.out = many.View(alone);
      for (int64_t r = many.rows - 1; r >= 0; --r) {
        HadamardArgs one = args;
        for (MatrixView* v : {&one.x, &one.out, &one.quantized, &one.scratch}) {
          const int64_t element = v == &one.quantized ? 1 : sizeof(float);
          if (v->data != nullptr) v->data = static_cast<char*>(v->data) + r * v->stride * element;
          v->rows = 1;
        }
        GetParam()->hadamard(one, {});
      }
      EXPECT_EQ(together, alone);
      EXPECT_EQ(codes, codes_alone);
    }
  }
}

TEST_P(HadamardOpTest, AddsBiasAndWhatIsThere) {
  for (const Size& size :
       {Size{1, 1}, Size{4, 1}, Size{2, 3}, Size{16, 3}, Size{64, 9}, Size{256, 1}, Size{8, 43}}) {
    for (const bool biased : {false, true}) {
      for (const bool accumulate : {false, true}) {
        const Rows rows(3, size.powers, size.b);
        std::vector<float> actual = rows.Empty(2.5f), expected = actual, x = rows.x;
        HadamardArgs args = rows.Args(true);
        args.bias = biased ? rows.bias.data() : nullptr;
        args.accumulate = accumulate;
        args.out = rows.View(expected);
        RefOps().hadamard(args, {});
        args.out = rows.View(actual);
        args.x = args.scratch = rows.View(x);
        GetParam()->hadamard(args, {});
        for (int64_t i = 0; i < rows.rows * rows.stride; ++i)
          ASSERT_NEAR(actual[i], expected[i], rows.Tolerance()) << NameOf(size);
      }
    }
  }
}

TEST_P(HadamardOpTest, WritesWhereItReads) {
  for (const Size& size : Sizes()) {
    const Rows rows(2, size.powers, size.b);
    std::vector<float> apart = rows.Empty(0), in_place = rows.x;
    HadamardArgs args = rows.Args(false);
    args.out = rows.View(apart);
    GetParam()->hadamard(args, {});
    args.x = args.out = rows.View(in_place);
    GetParam()->hadamard(args, {});
    ASSERT_EQ(apart, in_place) << NameOf(size);
  }
}

TEST_P(HadamardOpTest, QuantisesWhatItWouldWrite) {
  for (const Size& size : {Size{1, 1}, Size{1, 65}, Size{64, 1}, Size{64, 9}, Size{512, 3},
                           Size{32, 43}, Size{2, 5}}) {
    const Rows rows(3, size.powers, size.b);
    std::vector<float> floats = rows.Empty(), both = floats, scratch = floats;
    const int64_t record_bytes = QuantizedRowBytes(rows.n);
    std::vector<char> expected(rows.rows * record_bytes), actual = expected, alone = expected;
    const auto view = [&](std::vector<char>& to) {
      return MatrixView{to.data(), DType::kI8, rows.rows, rows.n, record_bytes};
    };
    HadamardArgs args = rows.Args(false);
    args.out = rows.View(floats);
    GetParam()->hadamard(args, {});
    GetParam()->convert({.x = args.out, .out = view(expected)}, {});
    args.out = rows.View(both);
    args.quantized = view(actual);
    GetParam()->hadamard(args, {});
    args.out = {};
    args.quantized = view(alone);
    args.scratch = rows.View(scratch);
    GetParam()->hadamard(args, {});
    EXPECT_EQ(std::memcmp(both.data(), floats.data(), floats.size() * sizeof(float)), 0);
    EXPECT_EQ(actual, expected) << NameOf(size);
    EXPECT_EQ(alone, expected) << NameOf(size);
  }
}

TEST_P(HadamardOpTest, ReadsBf16) {
  for (const Size& size : {Size{1, 1}, Size{2, 7}, Size{64, 9}, Size{128, 1}}) {
    Rows rows(2, size.powers, size.b);
    std::vector<BF16> narrow(rows.x.size());
    for (size_t i = 0; i < narrow.size(); ++i) {
      narrow[i] = ToBF16(rows.x[i]);
      rows.x[i] = ToFloat(narrow[i]);
    }
    std::vector<float> expected = rows.Empty(), actual = expected;
    HadamardArgs args = rows.Args(false);
    args.out = rows.View(expected);
    GetParam()->hadamard(args, {});
    args.x = {narrow.data(), DType::kBF16, rows.rows, rows.n, rows.stride};
    args.out = rows.View(actual);
    GetParam()->hadamard(args, {});
    EXPECT_EQ(actual, expected) << NameOf(size);
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, HadamardOpTest, testing::ValuesIn(CpuOpTables()), OpTableName);

}  // namespace
}  // namespace rankine
