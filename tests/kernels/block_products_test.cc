// Block-encoded weights: packing, gathering and products of every op table against the reference.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "kernels/api/quantized_rows.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/op_table.h"
#include "kernels/ref/block_core.h"
#include "tests/kernels/op_table_testing.h"
#include "tests/testing/block_testing.h"

namespace rankine {
namespace {

// Activations [rows, cols] as f32, and as records.
struct Activations {
  Activations(int64_t rows, int64_t cols, std::mt19937& rng)
      : floats(rows * RoundUp(cols, 16)), records(rows * QuantizedRowBytes(cols)) {
    std::normal_distribution<float> normal;
    x = {.data = floats.data(), .rows = rows, .cols = cols, .stride = RoundUp(cols, 16)};
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) x.Row<float>(r)[c] = normal(rng);
    }
    quantized = {.data = records.data(),
                 .dtype = DType::kI8,
                 .rows = rows,
                 .cols = cols,
                 .stride = QuantizedRowBytes(cols)};
    RefOps().convert({.x = x, .out = quantized}, {});
  }
  std::vector<float> floats;
  std::vector<char> records;
  MatrixView x, quantized;
};

std::vector<float> Multiply(const OpTable& ops, const PackedCore& core, const MatrixView& x,
                            Stream stream = {}) {
  std::vector<float> y(x.rows * RoundUp(core.n, 16), NAN);
  const Product product{
      .weights = core,
      .x = x,
      .y = {.data = y.data(), .rows = x.rows, .cols = core.n, .stride = RoundUp(core.n, 16)}};
  ops.products({.products = &product, .num_products = 1, .num_tokens = x.rows}, stream);
  return y;
}

// Sum over k of |x| (|scale x code| + |offset|): what rounding errors are relative to.
double Magnitude(const PackedCore& core, const MatrixView& x, int64_t token, int64_t row) {
  double sum = 0;
  for (int64_t k = 0; k < core.k; ++k) {
    double weight = 0;
    if (core.encoding.kind == EncodingKind::kNf4) {
      weight = std::abs(BlockElement(core, row, k));
    } else {
      const BlockParts parts = BlockPartsAt(core, row, k);
      weight = std::abs(static_cast<double>(parts.scale) * parts.code) + std::abs(parts.offset);
    }
    sum += weight * std::abs(x.Row<float>(token)[k]);
  }
  return sum;
}

// Each term meets at most k + 4 roundings; quantised activations are at most 1.01 times as large
// as the floats they stand for, or a 254th of the largest more.
void ExpectClose(const PackedCore& core, const MatrixView& x, const std::vector<float>& actual,
                 const std::vector<float>& expected) {
  const int64_t stride = RoundUp(core.n, 16);
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t row = 0; row < stride; ++row) {
      const double tolerance = row < core.n ? 1.1 * static_cast<double>(core.k + 4) * 0x1p-24 *
                                                  Magnitude(core, x, t, row)
                                            : 0;
      ASSERT_NEAR(actual[t * stride + row], expected[t * stride + row], tolerance)
          << "token " << t << " output " << row;
    }
  }
}

// E8P encodes eight columns at a time.
bool Fits(const Encoding& encoding, int64_t cols) {
  return encoding.kind != EncodingKind::kE8P || cols % 8 == 0;
}

class BlockProductsTest : public testing::TestWithParam<const OpTable*> {};

TEST_P(BlockProductsTest, PacksAsTheReference) {
  std::mt19937 rng(1);
  for (const Encoding& encoding : AllBlockEncodings()) {
    for (int64_t cols : {1, 64, 100, 576}) {
      if (!Fits(encoding, cols)) continue;
      SCOPED_TRACE(ToString(encoding) + " cols " + std::to_string(cols));
      const BlockRowsBuffer rows = RandomBlockRows(encoding, 37, cols, rng);
      const TestBlockCore expected(rows);
      std::vector<char> storage(PackedBytes(encoding, 37, cols));
      PackedCore core = expected.core;
      core.data = storage.data();
      GetParam()->pack_blocks({.source = rows.view(), .core = core});
      ASSERT_EQ(std::memcmp(core.data, expected.core.data, storage.size()), 0);
    }
  }
}

TEST_P(BlockProductsTest, PacksRowsInParts) {
  std::mt19937 rng(2);
  for (const Encoding& encoding : AllBlockEncodings()) {
    const BlockRowsBuffer first = RandomBlockRows(encoding, 21, 136, rng);
    const BlockRowsBuffer second = RandomBlockRows(encoding, 16, 136, rng);
    std::vector<char> actual(PackedBytes(encoding, 37, 136)), expected(actual.size());
    PackedCore core{.data = actual.data(),
                    .dtype = DType::kU8,
                    .encoding = encoding,
                    .n = 37,
                    .k = 136,
                    .block_stride = PackedBlockBytes(encoding, 136)};
    GetParam()->pack_blocks({.source = second.view(), .row_offset = 21, .core = core});
    GetParam()->pack_blocks({.source = first.view(), .core = core});
    core.data = expected.data();
    RefOps().pack_blocks({.source = first.view(), .core = core});
    RefOps().pack_blocks({.source = second.view(), .row_offset = 21, .core = core});
    ASSERT_EQ(actual, expected) << ToString(encoding);
  }
}

// What was packed is what DecodeBlockRow says of the source, bit for bit.
TEST_P(BlockProductsTest, GathersTheExactValues) {
  std::mt19937 rng(3);
  for (const Encoding& encoding : AllBlockEncodings()) {
    for (int64_t cols : {17, 600}) {
      if (!Fits(encoding, cols)) continue;
      const BlockRowsBuffer rows = RandomBlockRows(encoding, 20, cols, rng);
      const TestBlockCore packed(rows);
      const std::vector<int32_t> ids = {19, 0, 7};
      std::vector<float> out(3 * RoundUp(cols, 16), NAN), expected(cols);
      GetParam()->gather_rows(
          {.core = packed.core,
           .ids = ids.data(),
           .num_ids = 3,
           .out = {.data = out.data(), .rows = 3, .cols = cols, .stride = RoundUp(cols, 16)}},
          {});
      for (size_t i = 0; i < ids.size(); ++i) {
        DecodeBlockRow(rows.view(), ids[i], expected.data());
        for (int64_t c = 0; c < RoundUp(cols, 16); ++c) {
          ASSERT_EQ(out[i * RoundUp(cols, 16) + c], c < cols ? expected[c] : 0.0f)
              << ToString(encoding) << " column " << c;
        }
      }
    }
  }
}

TEST_P(BlockProductsTest, MatchesTheReference) {
  std::mt19937 rng(4);
  for (const Encoding& encoding : AllBlockEncodings()) {
    for (int64_t cols : {70, 72, 576}) {
      if (!Fits(encoding, cols)) continue;
      SCOPED_TRACE(ToString(encoding) + " cols " + std::to_string(cols));
      const TestBlockCore packed(RandomBlockRows(encoding, 19, cols, rng));
      const Activations a(2, cols, rng);
      ExpectClose(packed.core, a.x, Multiply(*GetParam(), packed.core, a.x),
                  Multiply(RefOps(), packed.core, a.x));
      if (encoding.kind == EncodingKind::kNf4) continue;
      ExpectClose(packed.core, a.x, Multiply(*GetParam(), packed.core, a.quantized),
                  Multiply(RefOps(), packed.core, a.quantized));
    }
  }
}

const Encoding kSome[] = {
    {.kind = EncodingKind::kAffine, .bits = 4, .group = 32},
    {.kind = EncodingKind::kAffine, .bits = 4, .group = 32, .offset = OffsetKind::kPerGroup},
    {.kind = EncodingKind::kAffine, .bits = 8, .group = 128},
    {.kind = EncodingKind::kAffine, .bits = 8, .group = 16, .offset = OffsetKind::kPerGroup},
    {.kind = EncodingKind::kAffine,
     .bits = 5,
     .group = 32,
     .scale = ScaleKind::kTwoLevel,
     .offset = OffsetKind::kTwoLevel},
    {.kind = EncodingKind::kE8P},
};

// The largest integers that can occur: all codes and all activations at their ends.
TEST_P(BlockProductsTest, ExtremeCodesDoNotOverflow) {
  std::mt19937 rng(5);
  for (const Encoding& encoding : AllBlockEncodings()) {
    if (encoding.kind != EncodingKind::kAffine) continue;
    BlockRowsBuffer rows = RandomBlockRows(encoding, 16, 128, rng);
    for (size_t i = 0; i < rows.codes.size(); ++i) {
      rows.codes[i] = static_cast<uint8_t>(i / 128 % 2 == 0 ? (1 << encoding.bits) - 1 : 0);
    }
    const TestBlockCore packed(rows);
    Activations a(32, 128, rng);
    for (int64_t r = 0; r < 32; ++r) {
      std::fill_n(a.x.Row<float>(r), 128, r % 2 == 0 ? 127.0f : -127.0f);
    }
    RefOps().convert({.x = a.x, .out = a.quantized}, {});
    SCOPED_TRACE(ToString(encoding));
    ExpectClose(packed.core, a.x, Multiply(*GetParam(), packed.core, a.quantized),
                Multiply(RefOps(), packed.core, a.quantized));
  }
}

// A token's bits depend on neither its neighbours nor the threads, for streams and panels alike.
TEST_P(BlockProductsTest, BitsDoNotDependOnBatchOrThreads) {
  std::mt19937 rng(6);
  ThreadPool pool(3);
  for (const Encoding& encoding : kSome) {
    const TestBlockCore packed(RandomBlockRows(encoding, 300, 1104, rng));
    const Activations a(150, 1104, rng);
    for (MatrixView x : {a.x, a.quantized}) {
      const std::vector<float> all = Multiply(*GetParam(), packed.core, x, Stream{&pool});
      const std::vector<float> alone = Multiply(*GetParam(), packed.core, x);
      ASSERT_EQ(all, alone);
      const size_t bytes = static_cast<size_t>(x.stride) * SizeOf(x.dtype);
      for (int64_t first : {0, 77, 149}) {
        for (int64_t count : {1, 2, 13, 25}) {
          if (first + count > 150) continue;
          MatrixView part = x;
          part.data = static_cast<char*>(x.data) + static_cast<size_t>(first) * bytes;
          part.rows = count;
          const std::vector<float> y = Multiply(*GetParam(), packed.core, part, Stream{&pool});
          ASSERT_EQ(0, std::memcmp(y.data(), all.data() + first * 304, y.size() * sizeof(float)))
              << ToString(encoding) << " tokens " << first << " + " << count;
        }
      }
    }
  }
}

// Integer sums are exact and the floating point is the same, so all instruction sets agree.
TEST_P(BlockProductsTest, QuantisedProductsAgreeBetweenInstructionSets) {
  std::mt19937 rng(7);
  for (const Encoding& encoding : AllBlockEncodings()) {
    if (encoding.kind == EncodingKind::kNf4) continue;
    const TestBlockCore packed(RandomBlockRows(encoding, 40, 768, rng));
    for (int64_t rows : {1, 3, 37}) {
      const Activations a(rows, 768, rng);
      EXPECT_EQ(Multiply(*GetParam(), packed.core, a.quantized),
                Multiply(*CpuOpTables().front(), packed.core, a.quantized))
          << ToString(encoding) << " rows " << rows;
    }
  }
}

TEST_P(BlockProductsTest, QuantisedPanelsAgreeBetweenInstructionSets) {
  std::mt19937 rng(8);
  ThreadPool pool(2);
  for (const Encoding& encoding : kSome) {
    const TestBlockCore packed(RandomBlockRows(encoding, 600, 72, rng));
    const Activations a(300, 72, rng);
    EXPECT_EQ(Multiply(*GetParam(), packed.core, a.quantized, Stream{&pool}),
              Multiply(*CpuOpTables().front(), packed.core, a.quantized, Stream{&pool}))
        << ToString(encoding);
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, BlockProductsTest, testing::ValuesIn(CpuOpTables()), OpTableName);

}  // namespace
}  // namespace rankine
