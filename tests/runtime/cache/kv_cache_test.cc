#include "runtime/cache/kv_cache.h"

#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <set>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/batch_input.h"

namespace rankine {
namespace {

class KvCacheTest : public ::testing::Test {
 protected:
  KvCacheTest() : device_(*MakeCpuDevice({.num_threads = 1, .isa = "ref"})) {}
  std::unique_ptr<Device> device_;
};

constexpr KvCacheOptions kSmall = {
    .num_layers = 3, .kv_heads = 2, .head_dim = 5, .num_blocks = 4, .dtype = DType::kF16};

TEST_F(KvCacheTest, HasMemoryOfItsOwnForEachLayer) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
    KvCacheOptions options = kSmall;
    options.dtype = dtype;
    absl::StatusOr<KvCache> cache = KvCache::Create(*device_, options);
    ASSERT_TRUE(cache.ok()) << cache.status();
    std::set<void*> regions;
    for (int64_t i = 0; i < options.num_layers; ++i) {
      const KvLayer& layer = cache->layer(i);
      EXPECT_EQ(layer.num_blocks, 4);
      EXPECT_EQ(layer.kv_heads, 2);
      EXPECT_EQ(layer.head_dim, 5);
      EXPECT_EQ(layer.dtype, dtype);
      EXPECT_EQ(layer.key_scales != nullptr, dtype == DType::kI8);
      EXPECT_EQ(layer.value_scales != nullptr, dtype == DType::kI8);
      regions.insert({layer.keys, layer.values});
      // The whole extent is ours to write: ASan objects otherwise.
      const int64_t bytes = layer.num_blocks * layer.block_elements() * SizeOf(dtype);
      std::memset(layer.keys, 0x11, bytes);
      std::memset(layer.values, 0x22, bytes);
    }
    EXPECT_EQ(regions.size(), 6u);
    EXPECT_EQ(cache->bytes(), KvCache::BytesPerToken(options) * 4 * kKvBlockTokens);
  }
}

TEST_F(KvCacheTest, BytesPerTokenCountsKeysValuesAndScales) {
  KvCacheOptions options = {.num_layers = 30, .kv_heads = 3, .head_dim = 64};
  EXPECT_EQ(KvCache::BytesPerToken(options), 30 * 2 * 3 * 64 * 2);
  options.dtype = DType::kI8;
  EXPECT_EQ(KvCache::BytesPerToken(options), 30 * 2 * 3 * (64 + 4));
}

TEST_F(KvCacheTest, BadSizesAreErrors) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  auto code = [&](KvCacheOptions options) {
    return KvCache::Create(*device_, options).status().code();
  };
  for (int64_t bad : {int64_t{0}, int64_t{-1}, kMax}) {
    for (int64_t KvCacheOptions::*field :
         {&KvCacheOptions::num_layers, &KvCacheOptions::kv_heads, &KvCacheOptions::head_dim,
          &KvCacheOptions::num_blocks}) {
      KvCacheOptions options = kSmall;
      options.*field = bad;
      EXPECT_EQ(code(options), absl::StatusCode::kInvalidArgument) << bad;
    }
  }
  KvCacheOptions dtype = kSmall;
  dtype.dtype = DType::kI32;
  EXPECT_EQ(code(dtype), absl::StatusCode::kInvalidArgument);
  KvCacheOptions huge = {.num_layers = 1,
                         .kv_heads = 1 << 10,
                         .head_dim = 1 << 10,
                         .num_blocks = 1 << 25,
                         .dtype = DType::kF32};
  absl::Status status = KvCache::Create(*device_, huge).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("KV cache"));
}

TEST_F(KvCacheTest, ZeroBlocksTouchesThoseBlocksOnly) {
  KvCacheOptions options = kSmall;
  options.dtype = DType::kI8;
  KvCache cache = std::move(*KvCache::Create(*device_, options));
  const KvLayer& layer = cache.layer(2);
  const int64_t block_bytes = layer.block_elements();
  const int64_t block_scales = layer.kv_heads * kKvBlockTokens;
  std::memset(layer.values, 7, 4 * block_bytes);
  for (int64_t i = 0; i < 4 * block_scales; ++i) layer.key_scales[i] = 3;
  cache.ZeroBlocks(*device_, {1, 3});
  for (int64_t block = 0; block < 4; ++block) {
    const bool zeroed = block == 1 || block == 3;
    for (int64_t i = 0; i < block_bytes; ++i) {
      ASSERT_EQ(static_cast<int8_t*>(layer.values)[block * block_bytes + i], zeroed ? 0 : 7);
    }
    for (int64_t i = 0; i < block_scales; ++i) {
      ASSERT_EQ(layer.key_scales[block * block_scales + i], zeroed ? 0 : 3);
    }
  }
}

TEST(BatchInputTest, SlotsFollowTheBlocks) {
  BatchInput batch;
  const int32_t blocks_a[] = {7, 2};
  const int32_t blocks_b[] = {5};
  const int32_t tokens_a[] = {10, 11, 12};
  const int32_t tokens_b[] = {20};
  batch.AddSequence(tokens_a, 3, kKvBlockTokens - 1, blocks_a);
  batch.AddSequence(tokens_b, 1, 0, blocks_b);
  EXPECT_EQ(batch.token_ids, (std::vector<int32_t>{10, 11, 12, 20}));
  EXPECT_EQ(batch.positions,
            (std::vector<int32_t>{kKvBlockTokens - 1, kKvBlockTokens, kKvBlockTokens + 1, 0}));
  EXPECT_EQ(batch.slots, (std::vector<int64_t>{8 * kKvBlockTokens - 1, 2 * kKvBlockTokens,
                                               2 * kKvBlockTokens + 1, 5 * kKvBlockTokens}));
  ASSERT_EQ(batch.sequences.size(), 2u);
  EXPECT_EQ(batch.sequences[0].first_row, 0);
  EXPECT_EQ(batch.sequences[0].num_tokens, 3);
  EXPECT_EQ(batch.sequences[0].first_position, kKvBlockTokens - 1);
  EXPECT_EQ(batch.sequences[1].first_row, 3);
  batch.Clear();
  EXPECT_EQ(batch.num_tokens(), 0);
  EXPECT_TRUE(batch.sequences.empty());
}

}  // namespace
}  // namespace rankine
