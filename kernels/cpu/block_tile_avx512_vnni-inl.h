// The loop of tiles with the AVX512-VNNI dot product, whatever unpacks the codes. For files that
// have set the target by a pragma after their other includes; everything here is their own.
#pragma once

#include <immintrin.h>

#include "kernels/api/quantized_rows.h"
#include "kernels/cpu/block_kernels.h"

namespace rankine {
namespace {

template <int kGroup>
__attribute__((always_inline)) inline __m512i MinusSum(const QuantizedRecord* record, int group) {
  const int32_t* sums = kGroup == 16   ? record->minus_sums16
                        : kGroup == 32 ? record->minus_sums32
                                       : &record->minus_sum64;
  return _mm512_set1_epi32(sums[group]);
}

// dot += the four products of each lane, the four codes at `quad` broadcast by the instruction
// itself. In assembly because g++ 12 broadcasts to a register first, and registers to rename are
// what runs out when many rows pass.
__attribute__((always_inline)) inline void AddProducts(__m512i w, const int8_t* quad,
                                                       __m512i* dot) {
  struct Quad {
    int8_t codes[4];
  };
  __asm__("vpdpbusd %2%{1to16%}, %1, %0"
          : "+v"(*dot)
          : "v"(w), "m"(*reinterpret_cast<const Quad*>(quad)));
}

// Four chains a step: the latency of one chain of sixteen would keep more results in flight than
// there are registers to rename.
constexpr int kChains = 4;

// The exact dot product of the quads of one group.
template <int kQuads>
__attribute__((always_inline)) inline __m512i Dot(__m512i start, const __m512i* w,
                                                  const int8_t* codes) {
  constexpr int kParts = kQuads * kChains / 16;
  __m512i dot[kParts];
  dot[0] = start;
#pragma GCC unroll 4
  for (int p = 1; p < kParts; ++p) dot[p] = _mm512_setzero_si512();
#pragma GCC unroll 16
  for (int q = 0; q < kQuads; ++q) {
    AddProducts(w[q], codes + 4 * q, &dot[q % kParts]);
  }
#pragma GCC unroll 4
  for (int p = 1; p < kParts; ++p) dot[0] = _mm512_add_epi32(dot[0], dot[p]);
  return dot[0];
}

// One row of one step: the sum over its groups.
template <int kGroup, bool kOffsets>
__attribute__((always_inline)) inline __m512 RowStep(const QuantizedRecord* record,
                                                     const __m512i* w, const __m512* scales,
                                                     const __m512* offsets, __m128i zero_bits) {
  constexpr int kGroups = 64 / kGroup, kQuads = kGroup / 4;
  __m512 sum = _mm512_setzero_ps();
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) {
    const __m512i minus_sum = MinusSum<kGroup>(record, g);
    const __m512i start =
        kOffsets ? _mm512_setzero_si512() : _mm512_sll_epi32(minus_sum, zero_bits);
    const __m512 exact =
        _mm512_cvtepi32_ps(Dot<kQuads>(start, w + g * kQuads, record->codes + g * kGroup));
    sum = g == 0 ? _mm512_mul_ps(exact, scales[g]) : _mm512_fmadd_ps(exact, scales[g], sum);
    if constexpr (kOffsets) {
      sum = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(minus_sum), offsets[g], sum);
    }
  }
  return sum;
}

// Unpack(codes, w) fills the sixteen quads of a step, whose codes take kStepBytes.
template <int kGroup, bool kOffsets, int64_t kStepBytes, class Unpack>
__attribute__((always_inline)) inline void RunTile(const BlockTileArgs& args, Unpack unpack) {
  constexpr int kGroups = 64 / kGroup;
  const __m128i zero_bits = _mm_cvtsi32_si128(args.zero_bits);
  const uint8_t* codes = args.codes;
  const char* next = args.next;
  for (int64_t step = 0; step < args.steps; ++step, codes += kStepBytes) {
#pragma GCC unroll 16
    for (int64_t i = 0; i < kStepBytes; i += 64) __builtin_prefetch(next + i, 0, 2);
    next += kStepBytes;
    __m512i w[16];
    unpack(codes, w);
    const int64_t first_group = kGroup == 64 ? step >> args.group_shift : step * kGroups;
    __m512 scales[kGroups], offsets[kGroups];
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
      scales[g] = _mm512_loadu_ps(args.scales + (first_group + g) * kBlockRows);
      if constexpr (kOffsets) {
        offsets[g] = _mm512_loadu_ps(args.offsets + (first_group + g) * kBlockRows);
      }
    }
    const char* x = args.x + step * static_cast<int64_t>(sizeof(QuantizedRecord));
    const bool fresh = args.first && step == 0;
    for (int64_t r = 0; r < args.rows; ++r, x += args.x_stride) {
      const auto* record = reinterpret_cast<const QuantizedRecord*>(x);
      float* c = args.c + r * kBlockRows;
      const __m512 chain = fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(c);
      const __m512 sum = RowStep<kGroup, kOffsets>(record, w, scales, offsets, zero_bits);
      _mm512_storeu_ps(c, _mm512_fmadd_ps(sum, _mm512_set1_ps(record->scale), chain));
    }
  }
}

}  // namespace
}  // namespace rankine
