// Eight columns at a time in a 64-bit word, from tables of 8 kB and 1 kB.
#include "kernels/cpu/e8p_unpack.h"

#include <array>
#include <bit>
#include <cstring>

#include "kernels/api/block_layout.h"
#include "kernels/base/e8p.h"

namespace rankine {
namespace {

constexpr uint64_t kOnes = 0x0101010101010101u;
constexpr uint64_t kLastColumn = uint64_t{0xff} << 56;

// A byte for each column.
struct alignas(32) Entry {
  uint64_t positive;  // kE8PZeroCode + magnitude, in quarters
  uint64_t flips;     // xor: to kE8PZeroCode - magnitude
  uint64_t odd;       // kLastColumn where the parity of the codes is odd
};

struct Tables {
  std::array<Entry, kE8PEntries> entries;
  std::array<uint64_t, 128> signs;  // 0xff where negative; in the last column, their parity

  Tables() {
    for (int entry = 0; entry < kE8PEntries; ++entry) {
      const unsigned pattern = E8PMagnitudes()[entry];
      uint64_t magnitudes = 0;
      for (int i = 0; i < kE8PColumns; ++i) {
        magnitudes |= uint64_t{4 * (pattern >> (2 * i) & 3) + 2} << (8 * i);
      }
      // No byte borrows from its neighbour: magnitudes are at most 10.
      const uint64_t positive = kOnes * kE8PZeroCode + magnitudes;
      entries[entry] = {.positive = positive,
                        .flips = positive ^ (kOnes * kE8PZeroCode - magnitudes),
                        .odd = std::popcount(pattern & 0x5555u) % 2 == 1 ? kLastColumn : 0};
    }
    for (unsigned bits = 0; bits < signs.size(); ++bits) {
      signs[bits] = std::popcount(bits) % 2 == 1 ? kLastColumn : 0;
      for (int i = 0; i < kE8PColumns - 1; ++i) {
        if (bits >> i & 1) signs[bits] |= uint64_t{0xff} << (8 * i);
      }
    }
  }
};

uint64_t UnpackCodeword(const Tables& tables, uint16_t codeword) {
  const Entry& entry = tables.entries[codeword & 0xff];
  const uint64_t negative = tables.signs[codeword >> 8 & 0x7f] ^ entry.odd;
  // Ones added or taken away, without a branch: the bit is as good as random.
  const uint64_t shift = (2 * kOnes & -uint64_t{codeword >> 15 & 1u}) - kOnes;
  return (entry.positive ^ (entry.flips & negative)) + shift;
}

// Of the first kCount outputs. Places are constants once the inner loop is unrolled.
template <int kCount>
void Unpack(const Tables& tables, const uint8_t* codes, uint8_t* quads) {
  for (int64_t pair = 0; pair < kStepColumns / kE8PColumns / 2; ++pair) {
    const uint8_t* from = codes + 2 * E8PPlace(0, 2 * pair);
    for (int64_t parity = 0; parity < 2; ++parity) {
      uint8_t* low = quads + 8 * (2 * pair + parity) * kCount;
#pragma GCC unroll 16
      for (int64_t i = 0; i < kCount; ++i) {
        uint16_t codeword;
        std::memcpy(&codeword, from + 2 * (E8PPlace(i, 0) + E8PPlace(0, 1) * parity), 2);
        const uint64_t bytes = UnpackCodeword(tables, codeword);
        const auto first = static_cast<uint32_t>(bytes);
        const auto second = static_cast<uint32_t>(bytes >> 32);
        std::memcpy(low + 4 * i, &first, 4);
        std::memcpy(low + 4 * (kCount + i), &second, 4);
      }
    }
  }
}

const Tables& SharedTables() {
  static const Tables tables;
  return tables;
}

}  // namespace

void UnpackE8PStep(const uint8_t* codes, uint8_t* quads) {
  Unpack<kBlockRows>(SharedTables(), codes, quads);
}

void UnpackE8PHalf(const uint8_t* codes, int half, uint8_t* quads) {
  constexpr int kOutputs = kBlockRows / 2;
  Unpack<kOutputs>(SharedTables(), codes + 2 * E8PPlace(kOutputs * half, 0), quads);
}

}  // namespace rankine
