#include "runtime/cache/block_pool.h"

#include <cstdint>
#include <random>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace rankine {
namespace {

TEST(BlockPoolTest, GivesEachBlockToOneOwner) {
  BlockPool pool(5);
  std::vector<int32_t> a, b;
  ASSERT_TRUE(pool.Allocate(2, &a));
  ASSERT_TRUE(pool.Allocate(3, &b));
  EXPECT_EQ(pool.num_free(), 0);
  std::set<int32_t> all(a.begin(), a.end());
  all.insert(b.begin(), b.end());
  EXPECT_EQ(all, (std::set<int32_t>{0, 1, 2, 3, 4}));
}

TEST(BlockPoolTest, RefusalChangesNothing) {
  BlockPool pool(3);
  std::vector<int32_t> a, b = {77};
  ASSERT_TRUE(pool.Allocate(2, &a));
  EXPECT_FALSE(pool.Allocate(2, &b));
  EXPECT_EQ(b, (std::vector<int32_t>{77}));
  EXPECT_EQ(pool.num_free(), 1);
  EXPECT_TRUE(pool.Allocate(0, &b));
  EXPECT_EQ(b.size(), 1u);
}

TEST(BlockPoolTest, AppendsToWhatAnOwnerHas) {
  BlockPool pool(4);
  std::vector<int32_t> a;
  ASSERT_TRUE(pool.Allocate(1, &a));
  const int32_t first = a[0];
  ASSERT_TRUE(pool.Allocate(2, &a));
  EXPECT_EQ(a.size(), 3u);
  EXPECT_EQ(a[0], first);
  pool.Free(&a);
  EXPECT_TRUE(a.empty());
  EXPECT_EQ(pool.num_free(), 4);
}

TEST(BlockPoolTest, RandomUseNeverSharesOrLosesABlock) {
  constexpr int64_t kBlocks = 37;
  BlockPool pool(kBlocks);
  std::vector<std::vector<int32_t>> owners(8);
  std::mt19937 random(1);
  for (int i = 0; i < 5000; ++i) {
    std::vector<int32_t>& owner = owners[random() % owners.size()];
    if (random() % 3 == 0) {
      pool.Free(&owner);
    } else {
      const int64_t count = random() % 9;
      const bool fits = count <= pool.num_free();
      EXPECT_EQ(pool.Allocate(count, &owner), fits);
    }
    std::set<int32_t> used;
    size_t total = 0;
    for (const auto& ids : owners) {
      used.insert(ids.begin(), ids.end());
      total += ids.size();
    }
    ASSERT_EQ(used.size(), total);
    ASSERT_EQ(static_cast<int64_t>(total) + pool.num_free(), kBlocks);
    if (total > 0) {
      ASSERT_GE(*used.begin(), 0);
      ASSERT_LT(*used.rbegin(), kBlocks);
    }
  }
}

TEST(BlockPoolDeathTest, FreeingWhatIsFreeIsABrokenInvariant) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  BlockPool pool(2);
  std::vector<int32_t> ids;
  ASSERT_TRUE(pool.Allocate(1, &ids));
  std::vector<int32_t> copy = ids;
  pool.Free(&ids);
  EXPECT_DEATH(pool.Free(&copy), "check failed");
  std::vector<int32_t> outside = {2};
  EXPECT_DEATH(pool.Free(&outside), "check failed");
}

}  // namespace
}  // namespace rankine
