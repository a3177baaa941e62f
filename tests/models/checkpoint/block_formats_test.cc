#include "models/checkpoint/block_formats.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

namespace rankine {
namespace {

struct GoldenRecord {
  uint32_t type = 0, num_blocks = 0, bytes_per_block = 0, values_per_block = 0;
  std::vector<uint8_t> blocks;
  std::vector<float> values;
};

// See tests/testing/generators/ggml_blocks.py for the layout.
std::vector<GoldenRecord> LoadGolden() {
  std::ifstream in(std::string(RANKINE_TEST_DATA) + "/ggml_blocks.bin", std::ios::binary);
  const std::string data{std::istreambuf_iterator<char>(in), {}};
  std::vector<GoldenRecord> records;
  for (size_t at = 0; at + 16 <= data.size();) {
    GoldenRecord r;
    for (uint32_t* field : {&r.type, &r.num_blocks, &r.bytes_per_block, &r.values_per_block}) {
      std::memcpy(field, data.data() + at, 4);
      at += 4;
    }
    r.blocks.resize(size_t{r.num_blocks} * r.bytes_per_block);
    r.values.resize(size_t{r.num_blocks} * r.values_per_block);
    if (at + r.blocks.size() + 4 * r.values.size() > data.size()) break;
    std::memcpy(r.blocks.data(), data.data() + at, r.blocks.size());
    at += r.blocks.size();
    std::memcpy(r.values.data(), data.data() + at, 4 * r.values.size());
    at += 4 * r.values.size();
    records.push_back(std::move(r));
  }
  return records;
}

TEST(BlockFormats, EveryTypeDecodesBitEqualToGgufPy) {
  std::set<uint32_t> seen;
  for (const GoldenRecord& record : LoadGolden()) {
    SCOPED_TRACE(GgmlTypeName(record.type));
    const BlockFormat* format = FindBlockFormat(record.type);
    ASSERT_NE(format, nullptr);
    seen.insert(record.type);
    ASSERT_EQ(format->bytes_per_block, record.bytes_per_block);
    ASSERT_EQ(format->values_per_block, record.values_per_block);
    // One byte off any alignment, with guards around the output.
    std::vector<uint8_t> shifted(record.blocks.size() + 1);
    std::memcpy(shifted.data() + 1, record.blocks.data(), record.blocks.size());
    std::vector<float> out(record.values.size() + 2, 12345.0f);
    DecodeBlocks(format->type, shifted.data() + 1, record.num_blocks, out.data() + 1);
    EXPECT_EQ(out.front(), 12345.0f);
    EXPECT_EQ(out.back(), 12345.0f);
    for (size_t i = 0; i < record.values.size(); ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(out[i + 1]), std::bit_cast<uint32_t>(record.values[i]))
          << "value " << i << ": " << out[i + 1] << " against " << record.values[i];
    }
  }
  EXPECT_EQ(seen.size(), 13u);
}

TEST(BlockFormats, NonFiniteScalesDecodeToNonFiniteValues) {
  // Infinity as the f16 scale at the start of a Q8_0 block whose codes are 1.
  std::vector<uint8_t> block(34, 1);
  block[0] = 0x00;
  block[1] = 0x7C;
  std::vector<float> out(32);
  DecodeBlocks(GgmlType::kQ8_0, block.data(), 1, out.data());
  for (float v : out) EXPECT_FALSE(std::isfinite(v));
}

TEST(BlockFormats, OtherTypesAreNamedButNotDecoded) {
  EXPECT_EQ(FindBlockFormat(23), nullptr);
  EXPECT_EQ(GgmlTypeName(23), "IQ4_XS");
  EXPECT_EQ(FindBlockFormat(0xFFFFFFFFu), nullptr);
  EXPECT_EQ(GgmlTypeName(77), "unknown type 77");
  EXPECT_EQ(GgmlTypeName(3), "Q4_1");
  EXPECT_EQ(SupportedGgmlTypes(),
            "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K");
}

}  // namespace
}  // namespace rankine
