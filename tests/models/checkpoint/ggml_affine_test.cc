// Every block type of GGML is a member of the affine family, exactly.
#include "models/checkpoint/ggml_affine.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "models/encode/block_storage.h"

namespace rankine {
namespace {

constexpr GgmlType kBlockTypes[] = {
    GgmlType::kQ8_0, GgmlType::kQ4_0, GgmlType::kQ4_1, GgmlType::kQ5_0, GgmlType::kQ5_1,
    GgmlType::kQ2_K, GgmlType::kQ3_K, GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K};

// Bit for bit.
void ExpectSame(const std::vector<float>& a, const std::vector<float>& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(a[i]), std::bit_cast<uint32_t>(b[i]))
        << what << " at " << i << ": " << a[i] << " and " << b[i];
  }
}

// Blocks of random bytes are valid blocks; those with scales that are not finite are drawn again.
std::vector<uint8_t> RandomBlocks(GgmlType type, int64_t num_blocks, std::mt19937* random) {
  const BlockFormat& format = GetBlockFormat(type);
  std::vector<uint8_t> blocks;
  while (static_cast<int64_t>(blocks.size()) < num_blocks * format.bytes_per_block) {
    std::vector<uint8_t> block(static_cast<size_t>(format.bytes_per_block));
    for (uint8_t& byte : block) byte = static_cast<uint8_t>((*random)());
    std::vector<float> values(static_cast<size_t>(format.values_per_block));
    DecodeBlocks(type, block.data(), 1, values.data());
    bool finite = true;
    for (const float v : values) finite &= std::isfinite(v);
    if (finite) blocks.insert(blocks.end(), block.begin(), block.end());
  }
  return blocks;
}

TEST(GgmlAffine, EveryBlockTypeDecodesBitEqual) {
  std::mt19937 random(5);
  for (const GgmlType type : kBlockTypes) {
    const BlockFormat& format = GetBlockFormat(type);
    const std::optional<Encoding> encoding = AffineEncoding(type);
    ASSERT_TRUE(encoding.has_value());
    constexpr int64_t kRows = 50, kBlocks = 6;
    const int64_t cols = kBlocks * format.values_per_block;
    BlockRowsBuffer rows;
    ResizeBlockRows(*encoding, kRows, cols, &rows);
    std::vector<std::vector<float>> expected;
    for (int64_t r = 0; r < kRows; ++r) {
      const std::vector<uint8_t> blocks = RandomBlocks(type, kBlocks, &random);
      expected.emplace_back(cols);
      DecodeBlocks(type, blocks.data(), kBlocks, expected.back().data());
      SplitBlocks(type, blocks.data(), r, &rows);
    }
    ASSERT_TRUE(CheckBlockNumbers(rows, 0).ok());
    std::vector<float> decoded(cols);
    for (int64_t r = 0; r < kRows; ++r) {
      DecodeBlockRow(rows.view(), r, decoded.data());
      ExpectSame(decoded, expected[r], std::string(format.name));
    }
  }
}

TEST(GgmlAffine, TheFileFormKeepsEveryBlockTypeExactly) {
  std::mt19937 random(6);
  for (const GgmlType type : kBlockTypes) {
    const BlockFormat& format = GetBlockFormat(type);
    const int64_t cols = 3 * format.values_per_block;
    BlockRowsBuffer rows, loaded;
    ResizeBlockRows(*AffineEncoding(type), 1, cols, &rows);
    ResizeBlockRows(*AffineEncoding(type), 1, cols, &loaded);
    const std::vector<uint8_t> blocks = RandomBlocks(type, 3, &random);
    SplitBlocks(type, blocks.data(), 0, &rows);
    for (const BlockRole& role : BlockRoles(rows.encoding, cols)) {
      const std::vector<uint8_t> stored = StoreRole(rows.view(), role);
      ASSERT_TRUE(LoadRole(stored.data(), role, 0, &loaded).ok());
    }
    std::vector<float> expected(cols), decoded(cols);
    DecodeBlocks(type, blocks.data(), 3, expected.data());
    DecodeBlockRow(loaded.view(), 0, decoded.data());
    ExpectSame(decoded, expected, std::string(format.name));
    // No more bytes than the file of blocks has (Q3_K and Q2_K pack their scales tighter).
    const int64_t bytes = StoredBytes(rows.encoding, 1, cols);
    EXPECT_LE(bytes, static_cast<int64_t>(blocks.size()) * 115 / 100) << format.name;
  }
}

TEST(GgmlAffine, FloatTypesAreNotBlocks) {
  for (const GgmlType type : {GgmlType::kF32, GgmlType::kF16, GgmlType::kBF16}) {
    EXPECT_FALSE(AffineEncoding(type).has_value());
  }
}

}  // namespace
}  // namespace rankine
