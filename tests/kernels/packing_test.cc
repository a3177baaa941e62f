#include <gtest/gtest.h>

#include <cstring>

#include "kernels/cpu/thread_pool.h"
#include "tests/kernels/op_table_testing.h"
#include "tests/testing/products_testing.h"

namespace rankine {
namespace {

constexpr DType kWeightTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

class PackingTest : public testing::TestWithParam<const OpTable*> {};

// Rows [begin, end) of a matrix.
MatrixView Rows(const MatrixView& view, int64_t begin, int64_t end) {
  MatrixView part = view;
  part.data = static_cast<char*>(view.data) + begin * view.stride * SizeOf(view.dtype);
  part.rows = end - begin;
  return part;
}

void ExpectSameBytes(const TestCore& a, const TestCore& b) {
  const int64_t bytes = a.core.num_blocks() * a.core.block_stride;
  EXPECT_EQ(std::memcmp(a.core.data, b.core.data, bytes), 0);
}

TEST_P(PackingTest, PacksAsTheReference) {
  std::mt19937 rng(1);
  for (DType dtype : kWeightTypes) {
    for (int64_t n : {1, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 47}) {
      for (int64_t k : {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 40}) {
        SCOPED_TRACE(std::string(Name(dtype)) + " " + std::to_string(n) + "x" + std::to_string(k));
        TestMatrix w(dtype, n, k, k + 5, 1);
        w.FillNormal(rng);
        TestCore actual(dtype, n, k), expected(dtype, n, k);
        GetParam()->pack_rows({.source = w.view, .core = actual.core});
        RefOps().pack_rows({.source = w.view, .core = expected.core});
        ExpectSameBytes(actual, expected);
      }
    }
  }
}

TEST_P(PackingTest, DisjointRowsOfOneBlockAtOnce) {
  std::mt19937 rng(2);
  for (DType dtype : kWeightTypes) {
    TestMatrix w(dtype, 61, 37, 37);
    w.FillNormal(rng);
    TestCore actual(dtype, 61, 37), expected(dtype, 61, 37);
    RefOps().pack_rows({.source = w.view, .core = expected.core});
    ThreadPool pool(4);
    WorkQueue queue(61, 5);
    pool.Run([&](int) {
      int64_t begin, end;
      while (queue.Next(&begin, &end)) {
        GetParam()->pack_rows(
            {.source = Rows(w.view, begin, end), .row_offset = begin, .core = actual.core});
      }
    });
    ExpectSameBytes(actual, expected);
  }
}

TEST_P(PackingTest, GathersExactRowsAndZeroPads) {
  std::mt19937 rng(3);
  ThreadPool pool(2);
  for (DType dtype : kWeightTypes) {
    for (int64_t k : {0, 1, 2, 15, 16, 17, 33, 400}) {
      const int64_t n = 37;
      TestMatrix w(dtype, n, k, k);
      w.FillNormal(rng);
      TestCore packed(dtype, n, k, 64);
      GetParam()->pack_rows({.source = w.view, .core = packed.core});
      std::vector<int32_t> ids = {36, 0, 5, 5, 16, 15, 31, 32, 1, 2, 3, 4, 7, 8, 9, 10};
      const int64_t count = static_cast<int64_t>(ids.size());
      const int64_t stride = RoundUp(k, kColumnPad);
      TestMatrix out(DType::kF32, count, k, stride, 1);
      for (int64_t i = 0; i < count * stride; ++i) out.view.Row<float>(0)[i] = 9.0f;
      GetParam()->gather_rows(
          {.core = packed.core, .ids = ids.data(), .num_ids = count, .out = out.view},
          Stream{&pool});
      for (int64_t t = 0; t < count; ++t) {
        for (int64_t col = 0; col < stride; ++col) {
          const float want = col < k ? GetElement(w.view, ids[t], col) : 0.0f;
          ASSERT_EQ(out.view.Row<float>(t)[col], want) << Name(dtype) << " k " << k;
        }
      }
    }
  }
}

std::vector<const OpTable*> AllTables() {
  std::vector<const OpTable*> tables = CpuOpTables();
  tables.push_back(&RefOps());
  return tables;
}

INSTANTIATE_TEST_SUITE_P(All, PackingTest, testing::ValuesIn(AllTables()), OpTableName);

}  // namespace
}  // namespace rankine
