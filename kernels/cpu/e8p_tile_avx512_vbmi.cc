// The E8P tile with AVX512-VBMI: magnitudes come from the 256-entry table by vpermi2w (64 entries
// an instruction), fields of two bits go to bytes by vpmultishiftqb. 58 vector instructions for 32
// codewords.
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

struct Tables {
  __m512i magnitudes[8];  // patterns of two bits a column, 32 entries a register
  __m512i bytes;          // code | negative << 2 | shift << 3 to kE8PZeroCode + quarters
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

// Signs of the eight columns in the low byte, the shift in the top bit.
__attribute__((always_inline)) inline __m512i SignsAndShift(__m512i codewords, __m512i patterns) {
  const __m512i signs = _mm512_and_si512(_mm512_srli_epi16(codewords, 8), _mm512_set1_epi16(0x7f));
  const __m512i odd_codes = _mm512_and_si512(patterns, _mm512_set1_epi16(0x5555));
  const __m512i count = _mm512_popcnt_epi16(_mm512_xor_si512(signs, odd_codes));
  const __m512i last = _mm512_and_si512(_mm512_slli_epi16(count, 7), _mm512_set1_epi16(0x80));
  const __m512i shift = _mm512_and_si512(codewords, _mm512_set1_epi16(-0x8000));
  return _mm512_or_si512(_mm512_or_si512(signs, last), shift);
}

// Bytes of eight codewords: those at words [8 kPart, 8 kPart + 8) of the two registers.
template <int kPart>
__attribute__((always_inline)) inline __m512i Bytes(const Tables& t, __m512i patterns,
                                                    __m512i signs) {
  // Word 0 of each 64 bits; what the others hold is masked below.
  const __m512i spread =
      _mm512_add_epi64(_mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi64(8 * kPart));
  const __m512i pattern = _mm512_permutexvar_epi16(spread, patterns);
  const __m512i sign = _mm512_permutexvar_epi16(spread, signs);
  // Column i: bits 2 i, 2 i + 1 of the pattern to bits 0, 1; bit i of the signs to bit 2; bit 15 of
  // the signs to bit 3.
  const __m512i code_at = _mm512_set1_epi64(0x0e0c0a0806040200);
  const __m512i sign_at = _mm512_set1_epi64(0x050403020100'3f3e);
  const __m512i shift_at = _mm512_set1_epi8(12);
  const __m512i code = _mm512_multishift_epi64_epi8(code_at, pattern);
  const __m512i negative = _mm512_multishift_epi64_epi8(sign_at, sign);
  const __m512i shift = _mm512_multishift_epi64_epi8(shift_at, sign);
  __m512i index = _mm512_and_si512(code, _mm512_set1_epi8(3));
  // index | (v & mask)
  index = _mm512_ternarylogic_epi32(index, negative, _mm512_set1_epi8(4), 0xf8);
  index = _mm512_ternarylogic_epi32(index, shift, _mm512_set1_epi8(8), 0xf8);
  return _mm512_shuffle_epi8(t.bytes, index);
}

// Two octets: four quads of all sixteen outputs. Halves hold outputs in the order of E8PPlace.
__attribute__((always_inline)) inline void UnpackOctets(const Tables& t, const uint8_t* codes,
                                                        __m512i* w) {
  const __m512i codewords = _mm512_loadu_si512(codes);
  const __m512i patterns = Patterns(t, codewords);
  const __m512i signs = SignsAndShift(codewords, patterns);
  const __m512 a0 = _mm512_castsi512_ps(Bytes<0>(t, patterns, signs));
  const __m512 b0 = _mm512_castsi512_ps(Bytes<1>(t, patterns, signs));
  const __m512 a1 = _mm512_castsi512_ps(Bytes<2>(t, patterns, signs));
  const __m512 b1 = _mm512_castsi512_ps(Bytes<3>(t, patterns, signs));
  w[0] = _mm512_castps_si512(_mm512_shuffle_ps(a0, b0, 0x88));
  w[1] = _mm512_castps_si512(_mm512_shuffle_ps(a0, b0, 0xdd));
  w[2] = _mm512_castps_si512(_mm512_shuffle_ps(a1, b1, 0x88));
  w[3] = _mm512_castps_si512(_mm512_shuffle_ps(a1, b1, 0xdd));
}

void Tile(const BlockTileArgs& args) {
  const Tables tables = LoadTables();
  RunTile<64, false, 256>(
      args, [&](const uint8_t* codes, __m512i* w) __attribute__((always_inline)) {
        UnpackOctets(tables, codes, w);
        UnpackOctets(tables, codes + 64, w + 4);
        UnpackOctets(tables, codes + 128, w + 8);
        UnpackOctets(tables, codes + 192, w + 12);
      });
}

}  // namespace

#pragma GCC pop_options

BlockTileFn E8PTileAvx512Vbmi() { return Tile; }

}  // namespace rankine
