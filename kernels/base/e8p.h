// The E8P codebook of QuIP# (arXiv 2402.04396, section 4.2): 16 bits for eight weights, a part of
// the lattice E8 shifted by a quarter.
//
// A codeword, from the low bits up: 8 bits choose the magnitudes, a vector of 1/2, 3/2 and 5/2; 7
// bits the signs of columns 0 to 6 (1 = negative); the sign of column 7 makes the sum even, so that
// the vector lies in the lattice; the top bit adds 1/4 (1) or -1/4 (0) to every column.
//
// The 256 vectors of magnitudes are the 227 whose squared norm is at most 10, and 29 of the 56 of
// squared norm 12, the first in lexicographic order: the paper does not need particular ones, so
// codewords made by other programs are not those of this codebook.
#pragma once

#include <array>
#include <cstdint>

namespace rankine {

inline constexpr int kE8PColumns = 8;
inline constexpr int kE8PEntries = 256;
// Values in quarters lie in [-11, 11]; with this added they are unsigned codes with a zero code
// that is a power of two.
inline constexpr int kE8PZeroCode = 16;

// Magnitudes of an entry as codes c (magnitude = c + 1/2), two bits for each column from the low
// bits up.
const std::array<uint16_t, kE8PEntries>& E8PMagnitudes();

// The eight values of a codeword in quarters: value = quarters / 4.
void DecodeE8P(uint16_t codeword, int8_t quarters[kE8PColumns]);

// The codeword nearest to `values` in the Euclidean norm, but for rounding in f32 of the distances;
// values beyond the codebook go to its rim. Searches all entries. Any codeword for values that are
// not finite.
uint16_t NearestE8P(const float values[kE8PColumns]);

}  // namespace rankine
