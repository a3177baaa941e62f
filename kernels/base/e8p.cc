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

// The entries with one row for each column, so that the search runs over many entries at once:
// compilers vectorise loops over `entry` where each step is independent of the others.
struct SearchTable {
  alignas(64) float value[kE8PColumns][kE8PEntries];
  alignas(64) float squared_norm[kE8PEntries];
  // By the parity of y's negative columns: 4 where one sign must be flipped, else 0.
  alignas(64) float flip_cost[2][kE8PEntries];
};

SearchTable MakeSearchTable() {
  SearchTable table{};
  for (int entry = 0; entry < kE8PEntries; ++entry) {
    const int pattern = E8PMagnitudes()[entry];
    for (int i = 0; i < kE8PColumns; ++i) {
      const float value = static_cast<float>(pattern >> (2 * i) & 3) + 0.5f;
      table.value[i][entry] = value;
      table.squared_norm[entry] += value * value;
    }
    const bool odd_codes = std::popcount(static_cast<unsigned>(pattern & 0x5555)) % 2 != 0;
    table.flip_cost[0][entry] = odd_codes ? 4.0f : 0.0f;
    table.flip_cost[1][entry] = odd_codes ? 0.0f : 4.0f;
  }
  return table;
}

// The best entry for magnitudes: the distance to y with signs as y's, or with one of them flipped
// where the parity asks for it.
struct Choice {
  float distance = std::numeric_limits<float>::infinity();
  int entry = 0;
  int signs = 0;
};

// Index of the smallest number, the first of equal ones.
int SmallestIndex(const float* numbers) {
  constexpr int kLanes = 16;
  float lanes[kLanes];
  std::copy(numbers, numbers + kLanes, lanes);
  for (int entry = kLanes; entry < kE8PEntries; entry += kLanes) {
    for (int i = 0; i < kLanes; ++i) {
      const float number = numbers[entry + i];
      lanes[i] = number < lanes[i] ? number : lanes[i];
    }
  }
  const float smallest = *std::min_element(lanes, lanes + kLanes);
  const float* found = std::find(numbers, numbers + kE8PEntries, smallest);
  return found == numbers + kE8PEntries ? 0 : static_cast<int>(found - numbers);
}

// The column whose sign costs least to flip.
int CheapestFlip(const SearchTable& table, const float* magnitude, int entry) {
  int cheapest = 0;
  for (int i = 1; i < kE8PColumns; ++i) {
    if (magnitude[i] * table.value[i][entry] < magnitude[cheapest] * table.value[cheapest][entry])
      cheapest = i;
  }
  return cheapest;
}

Choice NearestEntry(const SearchTable& table, const float* y) {
  float magnitude[kE8PColumns];
  float squared_norm = 0;
  int signs = 0;
  for (int i = 0; i < kE8PColumns; ++i) {
    magnitude[i] = std::abs(y[i]);
    squared_norm += y[i] * y[i];
    if (y[i] < 0) signs |= 1 << i;
  }
  const bool odd_signs = std::popcount(static_cast<unsigned>(signs)) % 2 != 0;
  const float* flip_cost = table.flip_cost[odd_signs ? 1 : 0];
  // |y - v|^2 - |y|^2, and flipping the sign of column i adds (|y| + v)^2 - (|y| - v)^2.
  alignas(64) float distance[kE8PEntries];
  for (int entry = 0; entry < kE8PEntries; ++entry) {
    float product = magnitude[0] * table.value[0][entry];
    float sum = product, smallest = product;
    for (int i = 1; i < kE8PColumns; ++i) {
      product = magnitude[i] * table.value[i][entry];
      sum += product;
      smallest = product < smallest ? product : smallest;
    }
    distance[entry] = table.squared_norm[entry] - 2 * sum + flip_cost[entry] * smallest;
  }
  const int entry = SmallestIndex(distance);
  if (flip_cost[entry] != 0) signs ^= 1 << CheapestFlip(table, magnitude, entry);
  return {squared_norm + distance[entry], entry, signs};
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
  static const SearchTable table = MakeSearchTable();
  Choice best;
  int shift = 0;
  for (int candidate : {0, 1}) {
    float y[kE8PColumns];
    for (int i = 0; i < kE8PColumns; ++i) y[i] = values[i] - (candidate == 1 ? 0.25f : -0.25f);
    const Choice choice = NearestEntry(table, y);
    if (choice.distance < best.distance) {
      best = choice;
      shift = candidate;
    }
  }
  return static_cast<uint16_t>(best.entry | (best.signs & 0x7f) << 8 | shift << 15);
}

}  // namespace rankine
