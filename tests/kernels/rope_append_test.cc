#include <gtest/gtest.h>

#include "kernels/cpu/thread_pool.h"
#include "tests/kernels/cache_testing.h"

namespace rankine {
namespace {

constexpr int64_t kTokens = 70;

// A number of the cache as f32; i8 without its scale.
float Element(const KvLayer& c, const void* data, int64_t i) {
  switch (c.dtype) {
    case DType::kF32:
      return static_cast<const float*>(data)[i];
    case DType::kF16:
      return ToFloat(static_cast<const F16*>(data)[i]);
    case DType::kBF16:
      return ToFloat(static_cast<const BF16*>(data)[i]);
    default:
      return static_cast<const int8_t*>(data)[i];
  }
}

// How far two roundings to `dtype` of two numbers within `error` of each other may lie apart.
double Apart(DType dtype, double value, double error) {
  switch (dtype) {
    case DType::kF32:
      return error;
    case DType::kF16:  // normal numbers have 11 bits; below 2^-14 steps of 2^-24
      return error + std::max(std::fabs(value) * 0x1p-10, 0x1p-24);
    case DType::kBF16:
      return error + std::fabs(value) * 0x1p-7;
    default:  // codes: a tie may go either way
      return 1;
  }
}

void ExpectSameCache(const KvLayer& got, const KvLayer& want) {
  // Rotation: two products and a sum in f32, of numbers below 8.
  const double error = 4 * kRoundF32 * 8;
  const int64_t n = want.num_blocks * want.block_elements();
  for (int64_t i = 0; i < n; ++i) {
    for (const bool keys : {true, false}) {
      const float w = Element(want, keys ? want.keys : want.values, i);
      const float g = Element(got, keys ? got.keys : got.values, i);
      if (std::isnan(w)) {
        ASSERT_TRUE(std::isnan(g)) << "slot written out of turn: " << i;
      } else {
        ASSERT_NEAR(g, w, keys ? Apart(want.dtype, w, error) : 0)
            << i << (keys ? " key" : " value");
      }
    }
  }
  if (want.dtype != DType::kI8) return;
  for (int64_t i = 0; i < want.num_blocks * want.kv_heads * kKvBlockTokens; ++i) {
    if (std::isnan(want.key_scales[i])) {
      ASSERT_TRUE(std::isnan(got.key_scales[i]) && std::isnan(got.value_scales[i]));
    } else {
      ASSERT_NEAR(got.key_scales[i], want.key_scales[i], error);
      ASSERT_EQ(got.value_scales[i], want.value_scales[i]);
    }
  }
}

TEST(RopeAppend, EqualsReference) {
  for (const OpTable* table : CpuOpTables()) {
    for (const DType dtype : kCacheTypes) {
      for (int64_t head_dim : {2, 6, 8, 16, 20, 34, 64, 80, 96, 128, 256}) {
        SCOPED_TRACE(testing::Message() << table->name << Name(dtype) << " " << head_dim);
        const Shape shape{3, 1 + head_dim % 3, head_dim};
        TestCache got(dtype, 5, shape.kv_heads, head_dim);
        TestCache want(dtype, 5, shape.kv_heads, head_dim);
        const std::vector<int32_t> blocks = ScatteredBlocks(5, 1);
        TokenStreamData a(shape, kTokens, 2);
        TokenStreamData b(shape, kTokens, 2);
        ThreadPool pool(3);
        AppendTokens(*table, Stream{&pool}, shape, got.layer(), blocks.data(), 0, kTokens, &a);
        AppendTokens(RefOps(), Stream{}, shape, want.layer(), blocks.data(), 0, kTokens, &b);
        ExpectSameCache(got.layer(), want.layer());
        for (int64_t r = 0; r < kTokens; ++r) {
          for (int64_t c = 0; c < a.q.cols(); ++c) {
            ASSERT_NEAR(a.q.Get(r, c), b.q.Get(r, c), 4 * kRoundF32 * 8);
          }
        }
      }
    }
  }
}

TEST(RopeAppend, ReferenceRotatesByTheAngle) {
  const Shape shape{1, 1, 4};
  TestCache cache(DType::kF32, 1, 1, 4);
  TokenStreamData data(shape, 1, 1);
  const float q[4] = {1, 2, 3, 4};
  std::copy(q, q + 4, data.q.row(0));
  std::copy(q, q + 4, data.k.row(0));
  data.cos = {0.0f, 1.0f};  // a quarter turn of (1, 3), none of (2, 4)
  data.sin = {1.0f, 0.0f};
  const int32_t block = 0;
  AppendTokens(RefOps(), Stream{}, shape, cache.layer(), &block, 0, 1, &data);
  const float turned[4] = {-3, 2, 1, 4};
  for (int64_t d = 0; d < 4; ++d) {
    EXPECT_EQ(data.q.Get(0, d), turned[d]);
    EXPECT_EQ(static_cast<float*>(cache.layer().keys)[d * kKvBlockTokens], turned[d]);
    EXPECT_EQ(static_cast<float*>(cache.layer().values)[d], data.v.Get(0, d));
  }
}

TEST(RopeAppend, Int8ZeroesHaveScaleZeroAndFaultsPoisonTheScale) {
  const Shape shape{1, 1, 8};
  for (const OpTable* table : AllTables()) {
    TestCache cache(DType::kI8, 1, 1, 8);
    TokenStreamData data(shape, 3, 1);
    std::fill(data.v.row(0), data.v.row(0) + 8, 0.0f);
    data.v.row(1)[5] = std::numeric_limits<float>::quiet_NaN();
    data.v.row(2)[3] = std::numeric_limits<float>::infinity();
    const int32_t block = 0;
    AppendTokens(*table, Stream{}, shape, cache.layer(), &block, 0, 3, &data);
    EXPECT_EQ(cache.layer().value_scales[0], 0.0f) << table->name;
    for (int64_t d = 0; d < 8; ++d) EXPECT_EQ(static_cast<int8_t*>(cache.layer().values)[d], 0);
    EXPECT_TRUE(std::isnan(cache.layer().value_scales[1])) << table->name;
    EXPECT_TRUE(std::isnan(cache.layer().value_scales[2])) << table->name;
  }
}

TEST(RopeAppend, ChunksAndThreadsLeaveTheSameBits) {
  const Shape shape{9, 3, 64};
  const std::vector<int32_t> blocks = ScatteredBlocks(5, 3);
  for (const OpTable* table : CpuOpTables()) {
    for (const DType dtype : kCacheTypes) {
      TestCache whole(dtype, 5, 3, 64);
      TokenStreamData data(shape, kTokens, 4);
      AppendTokens(*table, Stream{}, shape, whole.layer(), blocks.data(), 0, kTokens, &data);
      for (const int64_t chunk : {1, 7, 64}) {
        ThreadPool pool(4);
        TestCache parts(dtype, 5, 3, 64);
        TokenStreamData again(shape, kTokens, 4);
        for (int64_t p = 0; p < kTokens; p += chunk) {
          AppendTokens(*table, Stream{&pool}, shape, parts.layer(), blocks.data(), p,
                       std::min(chunk, kTokens - p), &again);
        }
        EXPECT_TRUE(parts == whole) << table->name << Name(dtype) << chunk;
        EXPECT_EQ(again.q.bytes(), data.q.bytes());
      }
    }
  }
}

// Without tables keys go into the cache as they are, and queries stay; head_dim may be odd.
TEST(RopeAppend, RotatesNothingWithoutTables) {
  for (const OpTable* table : AllTables()) {
    for (int64_t head_dim : {1, 3, 16, 33}) {
      SCOPED_TRACE(testing::Message() << table->name << " " << head_dim);
      const Shape shape{2, 2, head_dim};
      TestCache cache(DType::kF32, 2, shape.kv_heads, head_dim);
      TokenStreamData data(shape, 33, 2);
      const std::vector<unsigned char> q_before = data.q.bytes();
      const int32_t blocks[] = {1, 0};
      const std::vector<int64_t> slots = SlotsOf(blocks, 0, 33);
      table->rope_append({.q = data.q.view(),
                          .k = data.k.view(),
                          .v = data.v.view(),
                          .slots = slots.data(),
                          .num_heads = shape.num_heads,
                          .cache = cache.layer()},
                         Stream{});
      EXPECT_EQ(data.q.bytes(), q_before);
      const KvLayer& c = cache.layer();
      for (int64_t t = 0; t < 33; ++t) {
        for (int64_t h = 0; h < 2; ++h) {
          const int64_t base = (blocks[t / 32] * 2 + h) * c.head_elements();
          for (int64_t i = 0; i < head_dim; ++i) {
            ASSERT_EQ(Element(c, c.keys, base + i * 32 + t % 32), data.k.Get(t, h * head_dim + i));
            ASSERT_EQ(Element(c, c.values, base + t % 32 * head_dim + i),
                      data.v.Get(t, h * head_dim + i));
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace rankine
