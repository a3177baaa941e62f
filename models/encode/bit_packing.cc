#include "models/encode/bit_packing.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/base/check.h"

namespace rankine {
namespace {

static_assert(std::endian::native == std::endian::little, "codes are packed from the low byte up");

// Eight codes take kBits bytes. They are spread to eight bytes in one 64-bit register, in three
// steps that each halve a run of codes: 8 codes -> 2 x 4 in lanes of 32 bits -> 4 x 2 in lanes of
// 16 -> 8 x 1 in bytes. A dozen operations for eight codes, and no instruction beyond the baseline.

constexpr uint64_t Repeat(uint64_t pattern, int lane_bits) {
  uint64_t word = 0;
  for (int at = 0; at < 64; at += lane_bits) word |= pattern << at;
  return word;
}

// Lanes of twice kLane bits, each with `kLow` low bits that stay and as many that move up by one
// lane of kLane bits.
template <int kLow, int kLane>
constexpr uint64_t SpreadStep(uint64_t w) {
  constexpr uint64_t kStay = Repeat((uint64_t{1} << kLow) - 1, 2 * kLane);
  return (w & kStay) | ((w & (kStay << kLow)) << (kLane - kLow));
}

template <int kLow, int kLane>
constexpr uint64_t GatherStep(uint64_t w) {
  constexpr uint64_t kStay = Repeat((uint64_t{1} << kLow) - 1, 2 * kLane);
  return (w & kStay) | ((w >> (kLane - kLow)) & (kStay << kLow));
}

template <int kBits>
constexpr uint64_t Spread(uint64_t w) {
  return SpreadStep<kBits, 8>(SpreadStep<2 * kBits, 16>(SpreadStep<4 * kBits, 32>(w)));
}

template <int kBits>
constexpr uint64_t Gather(uint64_t w) {
  return GatherStep<4 * kBits, 32>(GatherStep<2 * kBits, 16>(GatherStep<kBits, 8>(w)));
}

static_assert(Spread<3>(0b111'110'101'100'011'010'001'000) == 0x0706050403020100);
static_assert(Gather<6>(Spread<6>(0x123456789abc)) == 0x123456789abc);

template <int kBits>
void Unpack(const uint8_t* packed, int64_t count, uint8_t* codes) {
  const int64_t whole = count / 8;
  // As long as there are eight bytes, one load; Spread ignores what is beyond its eight codes.
  const int64_t easy = std::clamp<int64_t>((PackedCodeBytes(count, kBits) - 8) / kBits, 0, whole);
  for (int64_t i = 0; i < easy; ++i) {
    uint64_t word;
    std::memcpy(&word, packed + i * kBits, 8);
    word = Spread<kBits>(word);
    std::memcpy(codes + i * 8, &word, 8);
  }
  for (int64_t i = easy; i < whole; ++i) {
    uint64_t word = 0;
    std::memcpy(&word, packed + i * kBits, kBits);
    word = Spread<kBits>(word);
    std::memcpy(codes + i * 8, &word, 8);
  }
  const int64_t rest = count - whole * 8;
  if (rest == 0) return;
  uint64_t word = 0;
  std::memcpy(&word, packed + whole * kBits, static_cast<size_t>(PackedCodeBytes(rest, kBits)));
  word = Spread<kBits>(word);
  std::memcpy(codes + whole * 8, &word, static_cast<size_t>(rest));
}

template <int kBits>
void Pack(const uint8_t* codes, int64_t count, uint8_t* out) {
  const int64_t whole = count / 8;
  for (int64_t i = 0; i < whole; ++i) {
    uint64_t word;
    std::memcpy(&word, codes + i * 8, 8);
    word = Gather<kBits>(word);
    std::memcpy(out + i * kBits, &word, kBits);
  }
  const int64_t rest = count - whole * 8;
  if (rest == 0) return;
  uint64_t word = 0;
  std::memcpy(&word, codes + whole * 8, static_cast<size_t>(rest));
  word = Gather<kBits>(word);
  std::memcpy(out + whole * kBits, &word, static_cast<size_t>(PackedCodeBytes(rest, kBits)));
}

}  // namespace

void PackCodes(const uint8_t* codes, int64_t count, int bits, uint8_t* out) {
  switch (bits) {
    case 2:
      return Pack<2>(codes, count, out);
    case 3:
      return Pack<3>(codes, count, out);
    case 4:
      return Pack<4>(codes, count, out);
    case 5:
      return Pack<5>(codes, count, out);
    case 6:
      return Pack<6>(codes, count, out);
    case 8:
      std::copy_n(codes, count, out);  // unlike memcpy, a null `codes` of no length is fine
      return;
  }
  RK_CHECK(false);
}

void UnpackCodes(const uint8_t* packed, int64_t count, int bits, uint8_t* codes) {
  switch (bits) {
    case 2:
      return Unpack<2>(packed, count, codes);
    case 3:
      return Unpack<3>(packed, count, codes);
    case 4:
      return Unpack<4>(packed, count, codes);
    case 5:
      return Unpack<5>(packed, count, codes);
    case 6:
      return Unpack<6>(packed, count, codes);
    case 8:
      std::copy_n(packed, count, codes);
      return;
  }
  RK_CHECK(false);
}

}  // namespace rankine
