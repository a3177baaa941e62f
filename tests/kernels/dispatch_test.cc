#include <gtest/gtest.h>

#include "kernels/op_table.h"

namespace rankine {
namespace {

TEST(DispatchTest, TheBaselineIsAlwaysThereAndTheBestIsLast) {
  ASSERT_FALSE(CpuOpTables().empty());
  EXPECT_STREQ(CpuOpTables().front()->name, "avx2");
  EXPECT_EQ(&BestCpuOps(), CpuOpTables().back());
}

TEST(DispatchTest, FindsByName) {
  for (const OpTable* table : CpuOpTables()) EXPECT_EQ(FindCpuOps(table->name), table);
  EXPECT_EQ(FindCpuOps("avx9"), nullptr);
  EXPECT_EQ(FindCpuOps(""), nullptr);
}

}  // namespace
}  // namespace rankine
