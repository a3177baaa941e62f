#include "runtime/factor/product_cost.h"

#include "gtest/gtest.h"

namespace rankine {
namespace {

constexpr DeviceProfile kProfile{.bf16_flops_per_second = 4e9,
                                 .int8_flops_per_second = 8e9,
                                 .few_int8_flops_per_second = 1e9,
                                 .store_seconds = 0};

double Seconds(int64_t rows, DType x) {
  return ProductSeconds({.n = 64, .k = 128, .rows = rows, .x = x}, kProfile);
}

TEST(ProductCostTest, FewQuantisedRowsHaveARateOfTheirOwn) {
  constexpr int64_t kFew = DeviceProfile::kFewRows;
  constexpr double kOperationsOfRow = 2.0 * 64 * 128;
  EXPECT_DOUBLE_EQ(Seconds(kFew, DType::kI8), kFew * kOperationsOfRow / 1e9);
  EXPECT_DOUBLE_EQ(Seconds(kFew + 1, DType::kI8), (kFew + 1) * kOperationsOfRow / 8e9);
  EXPECT_DOUBLE_EQ(Seconds(kFew, DType::kBF16), kFew * kOperationsOfRow / 4e9);
}

}  // namespace
}  // namespace rankine
