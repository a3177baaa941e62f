#include "models/encode/block_storage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "tests/models/encode/encode_testing.h"

namespace rankine {
namespace {

using testing::AllBlockEncodings;
using ::testing::HasSubstr;
using testing::RandomBlockRows;

TEST(BlockStorage, RolesGiveBackWhatTheyStored) {
  for (const Encoding& encoding : AllBlockEncodings()) {
    for (const int64_t cols : {int64_t{8}, int64_t{256}, int64_t{600}}) {
      const BlockRowsBuffer before = RandomBlockRows(encoding, 3, cols, 17);
      BlockRowsBuffer after;
      ResizeBlockRows(encoding, 3, cols, &after);
      int64_t bytes = 0;
      for (const BlockRole& role : BlockRoles(encoding, cols)) {
        const std::vector<uint8_t> stored = StoreRole(before.view(), role);
        bytes += static_cast<int64_t>(stored.size());
        const absl::Status status = LoadRole(stored.data(), role, 0, &after);
        ASSERT_TRUE(status.ok()) << status;
      }
      EXPECT_EQ(bytes, StoredBytes(encoding, 3, cols));
      EXPECT_EQ(after.codes, before.codes);
      EXPECT_EQ(after.scales, before.scales);
      EXPECT_EQ(after.offsets, before.offsets);
      EXPECT_EQ(after.scale_codes, before.scale_codes);
      EXPECT_EQ(after.offset_codes, before.offset_codes);
    }
  }
}

TEST(BlockStorage, CountsBitsPerWeight) {
  const auto bits = [](Encoding e) {
    e.kind = EncodingKind::kAffine;
    return static_cast<double>(StoredBytes(e, 512, 1024)) * 8 / (512 * 1024);
  };
  EXPECT_EQ(bits({.bits = 4, .group = 64}), 4.25);
  EXPECT_EQ(bits({.bits = 4, .group = 32, .offset = OffsetKind::kPerGroup}), 5.0);
  EXPECT_EQ(bits({.bits = 3, .group = 64, .scale = ScaleKind::kF32}), 3.5);
  EXPECT_EQ(bits({.bits = 8, .group = 0}), 8 + 16.0 / 1024);
  EXPECT_EQ(
      bits(
          {.bits = 4, .group = 32, .scale = ScaleKind::kTwoLevel, .offset = OffsetKind::kTwoLevel}),
      4.5);                                                                            // Q4_K
  EXPECT_EQ(bits({.bits = 6, .group = 16, .scale = ScaleKind::kTwoLevelI8}), 6.5625);  // Q6_K
}

TEST(BlockStorage, RefusesNumbersThatAreNotFiniteOrTooLarge) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const float bad : {inf, -inf, std::nanf(""), 1e38f}) {
    const Encoding encoding{
        .kind = EncodingKind::kAffine, .bits = 4, .group = 32, .scale = ScaleKind::kF32};
    BlockRowsBuffer rows = RandomBlockRows(encoding, 4, 96, 3);
    rows.scales[2 * 3 + 1] = bad;
    const BlockRole scales = BlockRoles(encoding, 96)[1];
    std::vector<uint8_t> stored(rows.scales.size() * 4);
    std::memcpy(stored.data(), rows.scales.data(), stored.size());
    BlockRowsBuffer after;
    ResizeBlockRows(encoding, 4, 96, &after);
    const absl::Status status = LoadRole(stored.data(), scales, 100, &after);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("role scales at row 102, group 1"));
    EXPECT_EQ(CheckBlockNumbers(rows, 100), status);
  }
}

}  // namespace
}  // namespace rankine
