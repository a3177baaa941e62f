#include "models/encode/bit_packing.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace rankine {
namespace {

constexpr int kWidths[] = {2, 3, 4, 5, 6, 8};

std::vector<uint8_t> RandomCodes(int64_t count, int bits, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> codes(static_cast<size_t>(count));
  for (uint8_t& code : codes) code = static_cast<uint8_t>(random() & ((1u << bits) - 1));
  return codes;
}

// The definition: bit k of code i is bit i * bits + k of the bytes, low bits first.
std::vector<uint8_t> PackByDefinition(const std::vector<uint8_t>& codes, int bits) {
  std::vector<uint8_t> out(
      static_cast<size_t>(PackedCodeBytes(static_cast<int64_t>(codes.size()), bits)), 0);
  for (size_t i = 0; i < codes.size(); ++i) {
    for (int k = 0; k < bits; ++k) {
      const size_t at = i * static_cast<size_t>(bits) + static_cast<size_t>(k);
      out[at / 8] = static_cast<uint8_t>(out[at / 8] | ((codes[i] >> k) & 1) << (at % 8));
    }
  }
  return out;
}

TEST(BitPacking, EveryWidthAndLengthFollowsTheDefinition) {
  for (const int bits : kWidths) {
    for (int64_t count = 0; count <= 67; ++count) {
      const std::vector<uint8_t> codes = RandomCodes(count, bits, 7 * bits + count);
      const std::vector<uint8_t> expected = PackByDefinition(codes, bits);
      // Guards on both sides of both outputs.
      std::vector<uint8_t> packed(expected.size() + 2, 0xA5);
      PackCodes(codes.data(), count, bits, packed.data() + 1);
      EXPECT_EQ(packed.front(), 0xA5);
      EXPECT_EQ(packed.back(), 0xA5) << bits << " bits, " << count;
      EXPECT_EQ(std::vector<uint8_t>(packed.begin() + 1, packed.end() - 1), expected)
          << bits << " bits, " << count;
      std::vector<uint8_t> unpacked(codes.size() + 2, 0xA5);
      // A copy of exactly the packed size, so that a sanitizer sees a read beyond it.
      const std::vector<uint8_t> exact(expected);
      UnpackCodes(exact.data(), count, bits, unpacked.data() + 1);
      EXPECT_EQ(unpacked.front(), 0xA5);
      EXPECT_EQ(unpacked.back(), 0xA5) << bits << " bits, " << count;
      EXPECT_EQ(std::vector<uint8_t>(unpacked.begin() + 1, unpacked.end() - 1), codes)
          << bits << " bits, " << count;
    }
  }
}

}  // namespace
}  // namespace rankine
