#include "kernels/base/e8p.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/base/check.h"

namespace rankine {
namespace {

// The squared norm less that of (1/2)^8, which is 2: a magnitude of 3/2 adds 2, one of 5/2 adds 6.
int Excess(int pattern) {
  int excess = 0;
  for (int column = 0; column < kE8PColumns; ++column) {
    const int c = pattern >> (2 * column) & 3;
    excess += c == 2 ? 6 : 2 * c;
  }
  return excess;
}

bool HasOnlyThreeMagnitudes(int pattern) {
  for (int column = 0; column < kE8PColumns; ++column) {
    if ((pattern >> (2 * column) & 3) == 3) return false;
  }
  return true;
}

std::array<uint16_t, kE8PEntries> MakeMagnitudes() {
  std::array<uint16_t, kE8PEntries> entries{};
  size_t count = 0;
  for (int pattern = 0; pattern < 1 << 16; ++pattern) {
    if (HasOnlyThreeMagnitudes(pattern) && Excess(pattern) <= 8)
      entries[count++] = static_cast<uint16_t>(pattern);
  }
  RK_CHECK(count == 227);
  // Of squared norm 12, those with five magnitudes of 3/2.
  for (int pattern = 0; count < kE8PEntries; ++pattern) {
    if (std::popcount(static_cast<unsigned>(pattern & 0x5555)) == 5 && (pattern & 0xaaaa) == 0)
      entries[count++] = static_cast<uint16_t>(pattern);
  }
  return entries;
}

// Negative columns of a codeword, one bit each.
int SignsOf(uint16_t codeword, int pattern) {
  const int signs = codeword >> 8 & 0x7f;
  // A vector's sum has the parity of its negative columns and of its codes together.
  const int odd = std::popcount(static_cast<unsigned>((pattern & 0x5555) ^ signs)) & 1;
  return signs | odd << 7;
}

// The best entry for magnitudes: the distance to y with signs as y's, or with one of them flipped
// where the parity asks for it.
struct Choice {
  float distance = std::numeric_limits<float>::infinity();
  int entry = 0;
  int signs = 0;
};

Choice NearestEntry(const float* y) {
  float magnitude[kE8PColumns];
  int signs = 0;
  for (int i = 0; i < kE8PColumns; ++i) {
    magnitude[i] = std::abs(y[i]);
    if (y[i] < 0) signs |= 1 << i;
  }
  Choice best;
  for (int entry = 0; entry < kE8PEntries; ++entry) {
    const int pattern = E8PMagnitudes()[entry];
    float distance = 0, cheapest = std::numeric_limits<float>::infinity();
    int flipped = 0;
    for (int i = 0; i < kE8PColumns; ++i) {
      const float value = static_cast<float>(pattern >> (2 * i) & 3) + 0.5f;
      distance += (magnitude[i] - value) * (magnitude[i] - value);
      // Flipping the sign of column i adds (|y| + v)^2 - (|y| - v)^2.
      const float cost = 4 * magnitude[i] * value;
      if (cost < cheapest) {
        cheapest = cost;
        flipped = i;
      }
    }
    const bool odd = std::popcount(static_cast<unsigned>(pattern & 0x5555)) % 2 !=
                     std::popcount(static_cast<unsigned>(signs)) % 2;
    if (odd) distance += cheapest;
    if (distance < best.distance) {
      best = {distance, entry, odd ? signs ^ 1 << flipped : signs};
    }
  }
  return best;
}

}  // namespace

const std::array<uint16_t, kE8PEntries>& E8PMagnitudes() {
  static const std::array<uint16_t, kE8PEntries> entries = MakeMagnitudes();
  return entries;
}

void DecodeE8P(uint16_t codeword, int8_t quarters[kE8PColumns]) {
  const int pattern = E8PMagnitudes()[codeword & 0xff];
  const int signs = SignsOf(codeword, pattern);
  for (int i = 0; i < kE8PColumns; ++i) {
    const int magnitude = 4 * (pattern >> (2 * i) & 3) + 2;
    quarters[i] =
        static_cast<int8_t>((signs >> i & 1 ? -magnitude : magnitude) + (codeword >> 15 ? 1 : -1));
  }
}

uint16_t NearestE8P(const float values[kE8PColumns]) {
  Choice best;
  int shift = 0;
  for (int candidate : {0, 1}) {
    float y[kE8PColumns];
    for (int i = 0; i < kE8PColumns; ++i) y[i] = values[i] - (candidate == 1 ? 0.25f : -0.25f);
    const Choice choice = NearestEntry(y);
    if (choice.distance < best.distance) {
      best = choice;
      shift = candidate;
    }
  }
  return static_cast<uint16_t>(best.entry | (best.signs & 0x7f) << 8 | shift << 15);
}

}  // namespace rankine
