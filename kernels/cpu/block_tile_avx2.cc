// Tiles of block-encoded weights and quantised activations with AVX2: vpmaddubsw multiplies
// unsigned codes by signed ones and adds pairs in 16 bits. Codes of up to 6 bits are added over as
// many quads as cannot overflow before they are widened; 8-bit codes are made signed first (their
// difference, 128 x sum, is added back), because 255 x 127 x 2 does not fit.
//
// The outputs of a block are computed in two halves of eight: 16 registers hold no more.
#include <immintrin.h>

#include <cstring>

#include "kernels/api/quantized_rows.h"
#include "kernels/cpu/block_kernels.h"
#include "kernels/cpu/block_tile_select.h"
#include "kernels/cpu/e8p_unpack.h"
#include "kernels/cpu/prefetch.h"

namespace rankine {
namespace {

template <int kBy>
__m256i Shift(__m256i v) {
  if constexpr (kBy > 0) return _mm256_srli_epi16(v, kBy);
  if constexpr (kBy < 0) return _mm256_slli_epi16(v, -kBy);
  return v;
}

// Half (of the outputs) of quad kQuad of a plane of kPlaneBits, moved to bits kTo and up.
template <int kPlaneBits, int kQuad, int kTo>
__m256i PlaneQuad(const uint8_t* codes) {
  constexpr int kVectors = 16 * kPlaneBits / 8;
  const __m256i v =
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + kQuad % kVectors * kVectorBytes));
  if constexpr (kPlaneBits == 8) {
    return v;
  } else {
    constexpr int kMask = ((1 << kPlaneBits) - 1) << kTo;
    return _mm256_and_si256(Shift<kQuad / kVectors * kPlaneBits - kTo>(v), _mm256_set1_epi8(kMask));
  }
}

template <int kBits, int kQuad>
__m256i CodesOfQuad(const uint8_t* codes) {
  constexpr CodePlanes kPlanes = PlanesOf(kBits);
  __m256i w = PlaneQuad<kPlanes.low, kQuad, 0>(codes);
  if constexpr (kPlanes.high != 0) {
    constexpr int kLowBytes = 16 * kPlanes.low / 8 * static_cast<int>(kVectorBytes);
    w = _mm256_or_si256(w, PlaneQuad<kPlanes.high, kQuad, kPlanes.low>(codes + kLowBytes));
  }
  return kBits == 8 ? _mm256_xor_si256(w, _mm256_set1_epi8(-128)) : w;
}

// Unpacked to memory (L1), from where the products read them.
template <int kBits, int kQuad = 0>
void UnpackHalf(const uint8_t* codes, __m256i* w) {
  w[kQuad] = CodesOfQuad<kBits, kQuad>(codes);
  if constexpr (kQuad + 1 < 16) UnpackHalf<kBits, kQuad + 1>(codes, w);
}

// Pairs of products of one quad, in 16 bits.
template <int kBits>
__m256i Pairs(__m256i w, __m256i x) {
  if constexpr (kBits == 8) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  } else {
    return _mm256_maddubs_epi16(w, x);
  }
}

// Quads whose pairs fit in 16 bits when added: count x 2 x (2^bits - 1) x 127 <= 32767.
constexpr int SafeQuads(int bits) {
  if (bits <= 4) return 8;
  return bits == 5 ? 4 : bits == 6 ? 2 : 1;
}

// The dot product of kQuads quads, started at `dot`.
template <int kBits, int kQuads>
__m256i Dot(__m256i dot, const __m256i* w, const int8_t* x) {
  constexpr int kSafe = SafeQuads(kBits) < kQuads ? SafeQuads(kBits) : kQuads;
  const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 16
  for (int first = 0; first < kQuads; first += kSafe) {
    __m256i pairs = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int q = first; q < first + kSafe; ++q) {
      int quad;
      std::memcpy(&quad, x + 4 * q, 4);
      const __m256i product = Pairs<kBits>(w[q], _mm256_set1_epi32(quad));
      pairs = q == first ? product : _mm256_add_epi16(pairs, product);
    }
    dot = _mm256_add_epi32(dot, _mm256_madd_epi16(pairs, ones));
  }
  return dot;
}

template <int kGroup>
int32_t MinusSum(const QuantizedRecord* record, int group) {
  return kGroup == 16   ? record->minus_sums16[group]
         : kGroup == 32 ? record->minus_sums32[group]
                        : record->minus_sum64;
}

template <int kBits, int kGroup, bool kOffsets>
__m256 RowStep(const QuantizedRecord* record, const __m256i* w, const float* scales,
               const float* offsets, int zero_bits) {
  constexpr int kGroups = 64 / kGroup, kQuads = kGroup / 4;
  __m256 sum = _mm256_setzero_ps();
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) {
    const int32_t minus_sum = MinusSum<kGroup>(record, g);
    int32_t start = kOffsets ? 0 : minus_sum * (1 << zero_bits);
    if (kBits == 8) start -= minus_sum * 128;
    const __m256i dot =
        Dot<kBits, kQuads>(_mm256_set1_epi32(start), w + g * kQuads, record->codes + g * kGroup);
    const __m256 exact = _mm256_cvtepi32_ps(dot);
    const __m256 scale = _mm256_loadu_ps(scales + g * kBlockRows);
    sum = g == 0 ? _mm256_mul_ps(exact, scale) : _mm256_fmadd_ps(exact, scale, sum);
    if constexpr (kOffsets) {
      sum = _mm256_fnmadd_ps(_mm256_set1_ps(static_cast<float>(minus_sum)),
                             _mm256_loadu_ps(offsets + g * kBlockRows), sum);
    }
  }
  return sum;
}

// Unpack(codes, half, w) fills one half of the quads of a step, whose codes take kStepBytes; kBits
// bounds the codes.
template <int kBits, int kGroup, bool kOffsets, int64_t kStepBytes, class Unpack>
void RunTile(const BlockTileArgs& args, Unpack unpack) {
  const uint8_t* codes = args.codes;
  const char* next = args.next;
  constexpr int64_t kAhead = PrefetchedOfStep(kStepBytes);
  // Held in registers: see RunRows in block_tile_avx512_vnni-inl.h.
  const int64_t rows = args.rows, x_stride = args.x_stride;
  const int zero_bits = args.zero_bits;
  const bool pages_in_turn = args.pages_in_turn;
  for (int64_t step = 0; step < args.steps; ++step, codes += kStepBytes) {
    // Of one row to L1, as block_tile_avx512_vnni-inl.h does.
    if (rows == 1) {
      PrefetchLines<3>(next, kAhead / 64, pages_in_turn);
    } else {
      PrefetchLines<2>(next, kAhead / 64, pages_in_turn);
    }
    next += kAhead;
    const int64_t group = kGroup == 64 ? step >> args.group_shift : step * (64 / kGroup);
    const bool fresh = args.first && step == 0;
    for (int half = 0; half < 2; ++half) {
      alignas(32) __m256i w[16];
      unpack(codes, half, w);
      const int64_t number = group * kBlockRows + 8 * half;
      const float* scales = args.scales + number;
      const float* offsets = kOffsets ? args.offsets + number : nullptr;
      const char* x = args.x + step * args.x_step;
      float* c = args.c + 8 * half;
      for (int64_t r = 0; r < rows; ++r, x += x_stride, c += kBlockRows) {
        const auto* record = reinterpret_cast<const QuantizedRecord*>(x);
        const __m256 chain = fresh ? _mm256_setzero_ps() : _mm256_loadu_ps(c);
        const __m256 sum = RowStep<kBits, kGroup, kOffsets>(record, w, scales, offsets, zero_bits);
        _mm256_storeu_ps(c, _mm256_fmadd_ps(sum, _mm256_set1_ps(record->scale), chain));
      }
    }
  }
}

template <int kBits, int kGroup, bool kOffsets>
void Tile(const BlockTileArgs& args) {
  RunTile<kBits, kGroup, kOffsets, 128 * kBits>(
      args,
      [](const uint8_t* codes, int half, __m256i* w) { UnpackHalf<kBits>(codes + 32 * half, w); });
}

// Codes of at most 27 count as five bits.
void E8PTile(const BlockTileArgs& args) {
  RunTile<5, 64, false, 256>(args, [](const uint8_t* codes, int half, __m256i* w) {
    constexpr int kOutputs = kBlockRows / 2;
    alignas(32) uint8_t quads[kStepColumns * kOutputs];
    UnpackE8PHalf(codes, half, quads);
    for (int q = 0; q < kStepQuads; ++q) {
      w[q] = _mm256_load_si256(reinterpret_cast<const __m256i*>(quads + 4 * kOutputs * q));
    }
  });
}

template <int kBits, int kGroup, bool kOffsets>
struct Tiles {
  static constexpr BlockTileFn kFunction = Tile<kBits, kGroup, kOffsets>;
};

}  // namespace

BlockTileFn E8PTileAvx2() { return E8PTile; }

BlockTileFn FindBlockTileAvx2(int bits, int64_t group, bool offsets) {
  return SelectBlockTile<Tiles>(bits, group, offsets);
}

}  // namespace rankine
