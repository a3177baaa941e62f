// The loop of tiles with the AVX512-VNNI dot product, whatever unpacks the codes. For files that
// have set the target by a pragma after their other includes; everything here is their own.
#pragma once

#include <immintrin.h>

#include "kernels/api/quantized_rows.h"
#include "kernels/cpu/block_codes_avx512-inl.h"
#include "kernels/cpu/block_kernels.h"
#include "kernels/cpu/prefetch.h"

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

template <int kBy>
__attribute__((always_inline)) inline __m512i ShiftSum(__m512i sum) {
  if constexpr (kBy > 0) return _mm512_srai_epi32(sum, kBy);
  if constexpr (kBy < 0) return _mm512_slli_epi32(sum, -kBy);
  return sum;
}

// dot[0] becomes the sum of chains, chain p of codes that are too large by kShift[kFirst + p *
// kLength] bits.
template <class Shifts, int kFirst, int kLength, int kParts, int kPart = 0>
__attribute__((always_inline)) inline void AddChains(__m512i* dot) {
  dot[kPart] = ShiftSum<Shifts::kOfQuad[kFirst + kPart * kLength]>(dot[kPart]);
  if constexpr (kPart > 0) dot[0] = _mm512_add_epi32(dot[0], dot[kPart]);
  if constexpr (kPart + 1 < kParts) AddChains<Shifts, kFirst, kLength, kParts, kPart + 1>(dot);
}

// The exact dot product of the kQuads quads of one group from kFirst on; each chain takes quads in
// a row, whose shifts are the same.
template <class Shifts, int kFirst, int kQuads>
__attribute__((always_inline)) inline __m512i Dot(__m512i start, const __m512i* w,
                                                  const int8_t* codes) {
  constexpr int kParts = kQuads * kChains / 16, kLength = kQuads / kParts;
  __m512i dot[kParts];
  dot[0] = ShiftSum<-Shifts::kOfQuad[kFirst]>(start);
#pragma GCC unroll 4
  for (int p = 1; p < kParts; ++p) dot[p] = _mm512_setzero_si512();
#pragma GCC unroll 4
  for (int i = 0; i < kLength; ++i) {
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p) {
      const int quad = kFirst + p * kLength + i;
      AddProducts(w[quad], codes + 4 * quad, &dot[p]);
    }
  }
  AddChains<Shifts, kFirst, kLength, kParts>(dot);
  return dot[0];
}

// Weights of one step, unpacked: sixteen quads and the scales and offsets of its groups.
template <int kGroup, bool kOffsets>
struct StepWeights {
  static constexpr int kGroups = 64 / kGroup;
  __m512i w[16];
  __m512 scales[kGroups], offsets[kGroups];
};

// One row of one step: the sum over its groups from g on.
template <class Shifts, int kGroup, bool kOffsets, int kG = 0>
__attribute__((always_inline)) inline __m512 RowStep(const QuantizedRecord* record,
                                                     const StepWeights<kGroup, kOffsets>& weights,
                                                     __m128i zero_bits, __m512 sum) {
  constexpr int kQuads = kGroup / 4;
  const __m512i minus_sum = MinusSum<kGroup>(record, kG);
  const __m512i start = kOffsets ? _mm512_setzero_si512() : _mm512_sll_epi32(minus_sum, zero_bits);
  const __m512 exact =
      _mm512_cvtepi32_ps(Dot<Shifts, kG * kQuads, kQuads>(start, weights.w, record->codes));
  sum = kG == 0 ? _mm512_mul_ps(exact, weights.scales[kG])
                : _mm512_fmadd_ps(exact, weights.scales[kG], sum);
  if constexpr (kOffsets) {
    sum = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(minus_sum), weights.offsets[kG], sum);
  }
  if constexpr ((kG + 1) * kGroup < 64) {
    return RowStep<Shifts, kGroup, kOffsets, kG + 1>(record, weights, zero_bits, sum);
  }
  return sum;
}

// What a step prefetches, to L1 (kLocality 3) or L2 (2) where it is not of pages in turn.
template <int64_t kCodeBytes, int kLocality>
__attribute__((always_inline)) inline void PrefetchNext(const BlockTileArgs& args, int64_t step) {
  constexpr int64_t kBytes = PrefetchedOfStep(kCodeBytes);
  PrefetchLines<kLocality>(args.next + step * kBytes, kBytes / 64, args.pages_in_turn);
}

// Codes(codes, w) fills the sixteen quads of a step, whose codes take Codes::kBytes.
template <class Codes, int kLocality, int kGroup, bool kOffsets>
__attribute__((always_inline)) inline void LoadStep(const BlockTileArgs& args, int64_t step,
                                                    const Codes& unpack,
                                                    StepWeights<kGroup, kOffsets>* weights) {
  PrefetchNext<Codes::kBytes, kLocality>(args, step);
  unpack(args.codes + step * Codes::kBytes, weights->w);
  constexpr int kGroups = StepWeights<kGroup, kOffsets>::kGroups;
  const int64_t first_group = kGroup == 64 ? step >> args.group_shift : step * kGroups;
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) {
    weights->scales[g] = _mm512_loadu_ps(args.scales + (first_group + g) * kBlockRows);
    if constexpr (kOffsets) {
      weights->offsets[g] = _mm512_loadu_ps(args.offsets + (first_group + g) * kBlockRows);
    }
  }
}

// A row's chain after one more step.
template <class Shifts, int kGroup, bool kOffsets>
__attribute__((always_inline)) inline __m512 AddStep(const char* x,
                                                     const StepWeights<kGroup, kOffsets>& weights,
                                                     __m128i zero_bits, __m512 chain) {
  const auto* record = reinterpret_cast<const QuantizedRecord*>(x);
  const __m512 sum =
      RowStep<Shifts, kGroup, kOffsets>(record, weights, zero_bits, _mm512_setzero_ps());
  return _mm512_fmadd_ps(sum, _mm512_set1_ps(record->scale), chain);
}

// One row: its chain stays in a register. Codes come to L1, since a step takes less than their way
// from L2: on Zen 5 1.03 to 1.08 x as fast.
template <class Codes, int kGroup, bool kOffsets>
__attribute__((always_inline)) inline void RunRow(const BlockTileArgs& args, const Codes& unpack) {
  const __m128i zero_bits = _mm_cvtsi32_si128(args.zero_bits);
  __m512 chain = args.first ? _mm512_setzero_ps() : _mm512_loadu_ps(args.c);
  for (int64_t step = 0; step < args.steps; ++step) {
    StepWeights<kGroup, kOffsets> weights;
    LoadStep<Codes, 3>(args, step, unpack, &weights);
    chain = AddStep<typename Codes::Shifts>(args.x + step * args.x_step, weights, zero_bits, chain);
  }
  _mm512_storeu_ps(args.c, chain);
}

template <class Codes, int kGroup, bool kOffsets>
__attribute__((always_inline)) inline void RunRows(const BlockTileArgs& args, const Codes& unpack) {
  const __m128i zero_bits = _mm_cvtsi32_si128(args.zero_bits);
  // Held in registers: chains might lie in args for all that the compiler knows, and what is read
  // again after each store delays the next row. On Zen 5 that took a fifth of the time.
  const int64_t rows = args.rows, x_stride = args.x_stride;
  for (int64_t step = 0; step < args.steps; ++step) {
    StepWeights<kGroup, kOffsets> weights;
    LoadStep<Codes, 2>(args, step, unpack, &weights);
    const char* x = args.x + step * args.x_step;
    const bool fresh = args.first && step == 0;
    float* c = args.c;
    for (int64_t r = 0; r < rows; ++r, x += x_stride, c += kBlockRows) {
      const __m512 chain = fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(c);
      _mm512_storeu_ps(c, AddStep<typename Codes::Shifts>(x, weights, zero_bits, chain));
    }
  }
}

}  // namespace
}  // namespace rankine
