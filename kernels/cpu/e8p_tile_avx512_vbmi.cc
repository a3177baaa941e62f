// The E8P tile with AVX512-VBMI: magnitudes come from the 256-entry table by vpermi2w (64 entries
// an instruction), fields of bits go to bytes by vpmultishiftqb. Shuffles and the number of
// instructions bound it. So one row, for which the codes are unpacked alone, takes the quarter that
// a codeword adds to all of its columns by their sum, a word for each codeword, and not in every
// byte.
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
  __m512i bytes;  // by code | negative << 2 | shift << 3 | anything << 4: kE8PZeroCode + quarters
};

// Without shifts in the bytes all are those of shift 0.
template <bool kShiftsInBytes>
__attribute__((always_inline)) inline Tables LoadTables() {
  Tables t;
  const uint16_t* patterns = E8PMagnitudes().data();
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) t.magnitudes[i] = _mm512_loadu_si512(patterns + 32 * i);
  alignas(64) uint8_t bytes[64];
  for (int i = 0; i < 64; ++i) {
    const int magnitude = 4 * (i & 3) + 2;
    const int shift = kShiftsInBytes && (i & 8) != 0 ? 1 : -1;
    bytes[i] = static_cast<uint8_t>(kE8PZeroCode + (i & 4 ? -magnitude : magnitude) + shift);
  }
  t.bytes = _mm512_load_si512(bytes);
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
  __m512i shifts;  // all bits, or none
};

__attribute__((always_inline)) inline Words Split(const Tables& t, const uint8_t* codes) {
  const __m512i codewords = _mm512_loadu_si512(codes);
  Words words;
  words.patterns = Patterns(t, codewords);
  words.signs = Signs(codewords, words.patterns);
  words.shifts = _mm512_srai_epi16(codewords, 15);
  return words;
}

// For each byte of 64 bits where in them its field begins: column `i` of word `word`, whose fields
// stand `step` bits apart from `first` bits on.
constexpr uint64_t FieldAt(int byte, int word, int column, int first, int step) {
  return uint64_t{(16 * word + first + column * step) & 63u} << (8 * byte);
}

__attribute__((always_inline)) inline __m512i Fields(__m512i words, uint64_t at) {
  return _mm512_multishift_epi64_epi8(_mm512_set1_epi64(static_cast<int64_t>(at)), words);
}

// The eight columns of word kWord.
template <int kWord>
constexpr uint64_t FieldsOfWord(int first, int step) {
  uint64_t at = 0;
  for (int i = 0; i < 8; ++i) at |= FieldAt(i, kWord, i, first, step);
  return at;
}

// Four columns, the first or the second half, of words 2 kPair and 2 kPair + 1.
template <int kPair, int kHalf>
constexpr uint64_t FieldsOfQuads(int first, int step) {
  uint64_t at = 0;
  for (int i = 0; i < 8; ++i) at |= FieldAt(i, 2 * kPair + i / 4, 4 * kHalf + i % 4, first, step);
  return at;
}

// Bits of `a` where `mask` has them, else of `b`.
__attribute__((always_inline)) inline __m512i Select(int mask, __m512i a, __m512i b) {
  return _mm512_ternarylogic_epi32(a, b, _mm512_set1_epi8(static_cast<char>(mask)), 0xe4);
}

// Index of the byte table but for its shift; what lies above is anything.
__attribute__((always_inline)) inline __m512i Indices(const Words& words, uint64_t patterns_at,
                                                      uint64_t signs_at) {
  return Select(0x03, Fields(words.patterns, patterns_at), Fields(words.signs, signs_at));
}

// Bytes of the eight codewords at words kWord of each 64 bits.
template <int kWord>
__attribute__((always_inline)) inline __m512 Bytes(const Tables& t, const Words& words) {
  constexpr uint64_t kPatterns = FieldsOfWord<kWord>(0, 2), kSigns = FieldsOfWord<kWord>(-2, 1);
  constexpr uint64_t kShifts = FieldsOfWord<kWord>(0, 0);
  const __m512i index =
      Select(0x07, Indices(words, kPatterns, kSigns), Fields(words.shifts, kShifts));
  return _mm512_castsi512_ps(_mm512_permutexvar_epi8(index, t.bytes));
}

// Two octets: four quads of all sixteen outputs. Codewords stand in the order of E8PPlace.
__attribute__((always_inline)) inline void UnpackOctets(const Tables& t, const Words& words,
                                                        __m512i* w) {
  const __m512 a0 = Bytes<0>(t, words), b0 = Bytes<1>(t, words);
  const __m512 a1 = Bytes<2>(t, words), b1 = Bytes<3>(t, words);
  w[0] = _mm512_castps_si512(_mm512_shuffle_ps(a0, b0, 0x88));
  w[1] = _mm512_castps_si512(_mm512_shuffle_ps(a0, b0, 0xdd));
  w[2] = _mm512_castps_si512(_mm512_shuffle_ps(a1, b1, 0x88));
  w[3] = _mm512_castps_si512(_mm512_shuffle_ps(a1, b1, 0xdd));
}

// A quad of all outputs without shifts, and with outputs 1 and 2 of each four exchanged, which
// spares a shuffle.
template <int kPair, int kHalf>
__attribute__((always_inline)) inline __m512i ExchangedQuad(const Tables& t, const Words& words) {
  constexpr uint64_t kPatterns = FieldsOfQuads<kPair, kHalf>(0, 2);
  constexpr uint64_t kSigns = FieldsOfQuads<kPair, kHalf>(-2, 1);
  return _mm512_permutexvar_epi8(Indices(words, kPatterns, kSigns), t.bytes);
}

constexpr int64_t kStepBytes = 256;
constexpr int kStepRegisters = 4;  // of codewords

// For any number of rows.
struct Codes {
  static constexpr int64_t kBytes = kStepBytes;
  using Shifts = NoShifts;

  __attribute__((always_inline)) void operator()(const uint8_t* codes, __m512i* w) const {
#pragma GCC unroll 4
    for (int i = 0; i < kStepRegisters; ++i)
      UnpackOctets(tables, Split(tables, codes + 64 * i), w + 4 * i);
  }

  Tables tables;
};

// What a shift adds to the sums of 64 columns of x: twice the sum of each octet as a word, as the
// words of a register of codewords stand for octets: four words for each register.
struct OctetSums {
  alignas(32) int64_t of_register[kStepRegisters];

  __attribute__((always_inline)) explicit OctetSums(const int8_t* x) {
    const __m512i from_zero = _mm512_xor_si512(_mm512_loadu_si512(x), _mm512_set1_epi8(-128));
    const __m512i sums = _mm512_sub_epi64(_mm512_sad_epu8(from_zero, _mm512_setzero_si512()),
                                          _mm512_set1_epi64(8 * 128));
    const __m512i order = _mm512_castsi256_si512(
        _mm256_set_epi16(28, 28, 24, 24, 20, 20, 16, 16, 12, 12, 8, 8, 4, 4, 0, 0));
    const __m512i words = _mm512_permutexvar_epi16(order, _mm512_slli_epi64(sums, 1));
    _mm256_store_si256(reinterpret_cast<__m256i*>(of_register), _mm512_castsi512_si256(words));
  }
};

// Words of 64 bits (a0, b0, a1, b1) to a0 + a1 and b0 + b1: the order of ExchangedQuad.
__attribute__((always_inline)) inline __m512i SumsOfOutputs(__m512i words) {
  const __m512i pairs = _mm512_add_epi16(words, _mm512_srli_epi64(words, 32));
  // Each in the high word of its half, whose sign then fills the low one.
  const __m512i a = _mm512_slli_epi32(pairs, 16), b = _mm512_slli_epi64(pairs, 32);
  return _mm512_srai_epi32(_mm512_mask_blend_epi32(0xaaaa, a, b), 16);
}

// RunRow, with the shifts apart: the same integers.
void RunOneRow(const BlockTileArgs& args, const Tables& tables) {
  const __m128i zero_bits = _mm_cvtsi32_si128(args.zero_bits);
  __m512 chain = args.first ? _mm512_setzero_ps() : _mm512_loadu_ps(args.c);
  for (int64_t step = 0; step < args.steps; ++step) {
    const auto* record = reinterpret_cast<const QuantizedRecord*>(args.x + step * args.x_step);
    const uint8_t* codes = args.codes + step * kStepBytes;
    PrefetchNext<kStepBytes, 3>(args, step);
    const OctetSums sums(record->codes);
    __m512i shifted = _mm512_setzero_si512();
    __m512i dot[2] = {_mm512_sll_epi32(MinusSum<64>(record, 0), zero_bits), _mm512_setzero_si512()};
#pragma GCC unroll 4
    for (int i = 0; i < kStepRegisters; ++i) {
      const Words words = Split(tables, codes + 64 * i);
      // At most 4 x 2 x 8 x 127.
      shifted = _mm512_add_epi16(
          shifted, _mm512_and_si512(words.shifts, _mm512_set1_epi64(sums.of_register[i])));
      // Multiplied at once: sixteen quads beside the tables would not fit the registers.
      const int8_t* x = record->codes + 16 * i;
      AddProducts(ExchangedQuad<0, 0>(tables, words), x, &dot[0]);
      AddProducts(ExchangedQuad<0, 1>(tables, words), x + 4, &dot[1]);
      AddProducts(ExchangedQuad<1, 0>(tables, words), x + 8, &dot[0]);
      AddProducts(ExchangedQuad<1, 1>(tables, words), x + 12, &dot[1]);
    }
    const __m512i exchanged =
        _mm512_add_epi32(_mm512_add_epi32(dot[0], dot[1]), SumsOfOutputs(shifted));
    const __m512i exact = _mm512_shuffle_epi32(exchanged, _MM_PERM_DBCA);
    const __m512 scales = _mm512_loadu_ps(args.scales + (step >> args.group_shift) * kBlockRows);
    const __m512 sum = _mm512_mul_ps(_mm512_cvtepi32_ps(exact), scales);
    chain = _mm512_fmadd_ps(sum, _mm512_set1_ps(record->scale), chain);
  }
  _mm512_storeu_ps(args.c, chain);
}

void Tile(const BlockTileArgs& args) {
  if (args.rows == 1) return RunOneRow(args, LoadTables<false>());
  RunRows<Codes, 64, false>(args, Codes{.tables = LoadTables<true>()});
}

void Unpack(const uint8_t* codes, int64_t steps, int zero, uint8_t* out) {
  UnpackSteps(Codes{.tables = LoadTables<true>()}, codes, steps, zero, out);
}

}  // namespace

#pragma GCC pop_options

UnpackFn UnpackE8PAvx512Vbmi() { return Unpack; }

BlockTileFn E8PTileAvx512Vbmi() { return Tile; }

}  // namespace rankine
