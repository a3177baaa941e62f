#include "kernels/cpu/machine_levels.h"

#include <gtest/gtest.h>

#include "kernels/cpu/thread_pool.h"

namespace rankine {
namespace {

TEST(HostCacheSizes, GrowWithTheLevel) {
  const CacheSizes sizes = HostCacheSizes();
  EXPECT_GT(sizes.l1, 0);
  EXPECT_GT(sizes.l2, sizes.l1);
  EXPECT_TRUE(sizes.l3 == 0 || sizes.l3 > sizes.l2) << sizes.l3;
}

TEST(MeasureCachedBandwidth, IsPositiveForAnyStreamAndSize) {
  ThreadPool pool(2);
  EXPECT_GT(MeasureCachedBandwidth(Stream{}, 1, 1), 0);
  EXPECT_GT(MeasureCachedBandwidth(Stream{&pool}, 16 << 10, 1), 0);
}

}  // namespace
}  // namespace rankine
