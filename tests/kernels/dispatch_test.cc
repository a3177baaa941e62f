#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/op_table.h"

namespace rankine {
namespace {

class DispatchTest : public testing::Test {
 protected:
  void SetUp() override { unsetenv("RANKINE_ISA"); }
  void TearDown() override { unsetenv("RANKINE_ISA"); }
};

TEST_F(DispatchTest, TheBaselineIsAlwaysThereAndTheBestIsLast) {
  ASSERT_FALSE(CpuOpTables().empty());
  EXPECT_STREQ(CpuOpTables().front()->name, "avx2");
  EXPECT_EQ(&BestCpuOps(), CpuOpTables().back());
  EXPECT_EQ(FindCpuOps(""), CpuOpTables().back());
}

TEST_F(DispatchTest, FindsByName) {
  for (const OpTable* table : CpuOpTables()) EXPECT_EQ(FindCpuOps(table->name), table);
  EXPECT_EQ(FindCpuOps("avx9"), nullptr);
}

TEST_F(DispatchTest, EnvironmentChoosesWhenNoNameIsGiven) {
  setenv("RANKINE_ISA", "avx2", 1);
  ASSERT_NE(FindCpuOps(""), nullptr);
  EXPECT_STREQ(FindCpuOps("")->name, "avx2");
  setenv("RANKINE_ISA", "sse9", 1);
  EXPECT_EQ(FindCpuOps(""), nullptr);
}

}  // namespace
}  // namespace rankine
