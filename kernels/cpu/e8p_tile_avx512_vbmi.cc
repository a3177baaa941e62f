// The E8P tile with AVX512-VBMI: magnitudes come from the 256-entry table by vpermi2w (64 entries
// an instruction), fields of bits go to bytes by vpmultishiftqb. Shuffles, one a cycle, bound it:
// 20 for 32 codewords.
#include <immintrin.h>

#include "kernels/api/quantized_rows.h"
#include "kernels/base/e8p.h"
#include "kernels/cpu/block_kernels.h"

// See block_tile_avx512_vnni.cc.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC push_options
#pragma GCC target( \
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx512vbmi2,avx512bitalg")

#include "kernels/cpu/block_tile_avx512_vnni-inl.h"

namespace rankine {
namespace {

// Patterns of two bits a column, 32 entries a register.
struct Tables {
  __m512i magnitudes[8];
  __m512i bytes;  // code | negative << 2 | shift << 3 to kE8PZeroCode + quarters
};

__attribute__((always_inline)) inline Tables LoadTables() {
  Tables t;
  const uint16_t* patterns = E8PMagnitudes().data();
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) t.magnitudes[i] = _mm512_loadu_si512(patterns + 32 * i);
  alignas(16) uint8_t bytes[16];
  for (int i = 0; i < 16; ++i) {
    const int magnitude = 4 * (i & 3) + 2;
    bytes[i] =
        static_cast<uint8_t>(kE8PZeroCode + (i & 4 ? -magnitude : magnitude) + (i & 8 ? 1 : -1));
  }
  t.bytes = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(bytes)));
  return t;
}

__attribute__((always_inline)) inline __m512i Patterns(const Tables& t, __m512i codewords) {
  const __mmask32 bit6 = _mm512_test_epi16_mask(codewords, _mm512_set1_epi16(0x40));
  const __mmask32 bit7 = _mm512_test_epi16_mask(codewords, _mm512_set1_epi16(0x80));
  __m512i quarter[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    quarter[i] = _mm512_permutex2var_epi16(t.magnitudes[2 * i], codewords, t.magnitudes[2 * i + 1]);
  }
  const __m512i low = _mm512_mask_blend_epi16(bit6, quarter[0], quarter[1]);
  const __m512i high = _mm512_mask_blend_epi16(bit6, quarter[2], quarter[3]);
  return _mm512_mask_blend_epi16(bit7, low, high);
}

// Signs of the eight columns in the low byte.
__attribute__((always_inline)) inline __m512i Signs(__m512i codewords, __m512i patterns) {
  const __m512i signs = _mm512_and_si512(_mm512_srli_epi16(codewords, 8), _mm512_set1_epi16(0x7f));
  const __m512i odd_codes = _mm512_and_si512(patterns, _mm512_set1_epi16(0x5555));
  const __m512i count = _mm512_popcnt_epi16(_mm512_xor_si512(signs, odd_codes));
  // signs | (count << 7 & 0x80)
  return _mm512_ternarylogic_epi32(signs, _mm512_slli_epi16(count, 7), _mm512_set1_epi16(0x80),
                                   0xf8);
}

// What 32 codewords are made of, a word for each.
struct Words {
  __m512i patterns, signs;
  __m512i shifts;  // 8 in both bytes, or 0
};

// Fields of word kWord of each 64 bits, `first` bits from its start and `step` apart, to bytes.
template <int kWord>
__attribute__((always_inline)) inline __m512i Fields(__m512i words, int first, int step) {
  uint64_t at = 0;
  for (int i = 0; i < 8; ++i) at |= uint64_t{(16 * kWord + first + i * step) & 63u} << (8 * i);
  return _mm512_multishift_epi64_epi8(_mm512_set1_epi64(static_cast<int64_t>(at)), words);
}

// Bytes of the eight codewords at words kWord of each 64 bits.
template <int kWord>
__attribute__((always_inline)) inline __m512 Bytes(const Tables& t, const Words& words) {
  const __m512i code = _mm512_and_si512(Fields<kWord>(words.patterns, 0, 2), _mm512_set1_epi8(3));
  // index | (v & mask)
  __m512i index =
      _mm512_ternarylogic_epi32(code, Fields<kWord>(words.signs, -2, 1), _mm512_set1_epi8(4), 0xf8);
  index = _mm512_or_si512(index, Fields<kWord>(words.shifts, 0, 0));
  return _mm512_castsi512_ps(_mm512_shuffle_epi8(t.bytes, index));
}

// Two octets: four quads of all sixteen outputs. Codewords stand in the order of E8PPlace.
__attribute__((always_inline)) inline void UnpackOctets(const Tables& t, const uint8_t* codes,
                                                        __m512i* w) {
  const __m512i codewords = _mm512_loadu_si512(codes);
  Words words;
  words.patterns = Patterns(t, codewords);
  words.signs = Signs(codewords, words.patterns);
  words.shifts = _mm512_and_si512(_mm512_srai_epi16(codewords, 15), _mm512_set1_epi16(0x0808));
  const __m512 a0 = Bytes<0>(t, words), b0 = Bytes<1>(t, words);
  const __m512 a1 = Bytes<2>(t, words), b1 = Bytes<3>(t, words);
  w[0] = _mm512_castps_si512(_mm512_shuffle_ps(a0, b0, 0x88));
  w[1] = _mm512_castps_si512(_mm512_shuffle_ps(a0, b0, 0xdd));
  w[2] = _mm512_castps_si512(_mm512_shuffle_ps(a1, b1, 0x88));
  w[3] = _mm512_castps_si512(_mm512_shuffle_ps(a1, b1, 0xdd));
}

struct Codes {
  static constexpr int64_t kBytes = 256;
  using Shifts = NoShifts;

  __attribute__((always_inline)) void operator()(const uint8_t* codes, __m512i* w) const {
    UnpackOctets(tables, codes, w);
    UnpackOctets(tables, codes + 64, w + 4);
    UnpackOctets(tables, codes + 128, w + 8);
    UnpackOctets(tables, codes + 192, w + 12);
  }

  Tables tables;
};

void Tile(const BlockTileArgs& args) {
  const Codes codes{.tables = LoadTables()};
  if (args.rows == 1) return RunRow<Codes, 64, false>(args, codes);
  RunRows<Codes, 64, false>(args, codes);
}

}  // namespace

#pragma GCC pop_options

BlockTileFn E8PTileAvx512Vbmi() { return Tile; }

}  // namespace rankine
