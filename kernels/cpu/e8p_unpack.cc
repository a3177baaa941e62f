// Eight columns at a time in a 64-bit word: magnitudes and sign masks come from tables of 2 kB
// each.
#include "kernels/cpu/e8p_unpack.h"

#include <array>
#include <bit>
#include <cstring>

#include "kernels/api/block_layout.h"
#include "kernels/base/e8p.h"

namespace rankine {
namespace {

constexpr uint64_t kOnes = 0x0101010101010101u;

struct Tables {
  std::array<uint64_t, kE8PEntries> magnitudes;  // in quarters, a byte for each column
  std::array<uint8_t, kE8PEntries> odd;          // parity of an entry's codes
  std::array<uint64_t, 256> masks;               // 0xff where the bit is set

  Tables() {
    for (int entry = 0; entry < kE8PEntries; ++entry) {
      const unsigned pattern = E8PMagnitudes()[entry];
      odd[entry] = std::popcount(pattern & 0x5555u) & 1;
      magnitudes[entry] = masks[entry] = 0;
      for (int i = 0; i < kE8PColumns; ++i) {
        magnitudes[entry] |= uint64_t{4 * (pattern >> (2 * i) & 3) + 2} << (8 * i);
        if (entry >> i & 1) masks[entry] |= uint64_t{0xff} << (8 * i);
      }
    }
  }
};

uint64_t UnpackCodeword(const Tables& tables, uint16_t codeword) {
  const unsigned entry = codeword & 0xff, signs = codeword >> 8 & 0x7f;
  const unsigned last = (std::popcount(signs) ^ tables.odd[entry]) & 1;
  const uint64_t negative = tables.masks[signs | last << 7];
  const uint64_t base = kOnes * (codeword >> 15 ? kE8PZeroCode + 1 : kE8PZeroCode - 1);
  // No byte borrows from its neighbour: magnitudes are at most 10.
  const uint64_t magnitude = tables.magnitudes[entry];
  return ((base + magnitude) & ~negative) | ((base - magnitude) & negative);
}

}  // namespace

void UnpackE8PStep(const uint8_t* codes, uint8_t* quads) {
  static const Tables tables;
  for (int64_t octet = 0; octet < kStepColumns / kE8PColumns; ++octet) {
    for (int64_t output = 0; output < kBlockRows; ++output) {
      uint16_t codeword;
      std::memcpy(&codeword, codes + 2 * E8PPlace(output, octet), 2);
      const uint64_t bytes = UnpackCodeword(tables, codeword);
      uint8_t* quad = quads + 2 * octet * kVectorBytes + 4 * output;
      std::memcpy(quad, &bytes, 4);
      std::memcpy(quad + kVectorBytes, reinterpret_cast<const char*>(&bytes) + 4, 4);
    }
  }
}

}  // namespace rankine
