// Codes of affine encodings out of their bit planes (packed_core.h), with AVX-512. For files that
// have set the target by a pragma after their other includes; everything here is their own.
#pragma once

#include <immintrin.h>

#include "kernels/api/block_layout.h"

namespace rankine {
namespace {

// How the quads of a step come out of the unpacking: kOfQuad says by how many bits the codes of a
// quad are too large. A shift of a sum is cheaper than one of every register of codes as long as
// few rows share them.
struct NoShifts {
  static constexpr int kOfQuad[16] = {};
};

__attribute__((always_inline)) inline __m512i Vector(const uint8_t* codes, int index) {
  return _mm512_loadu_si512(codes + index * kVectorBytes);
}

// Shifts right by `by`, left where it is negative, within 16-bit lanes; the caller masks.
template <int kBy>
__attribute__((always_inline)) inline __m512i Shift(__m512i v) {
  if constexpr (kBy > 0) return _mm512_srli_epi16(v, kBy);
  if constexpr (kBy < 0) return _mm512_slli_epi16(v, -kBy);
  return v;
}

// The vectors of a step; kInOrder: each loaded once, in the order in which they lie. Read in
// another they are no stream to the prefetchers of Zen 5 (one row of int8 codes: 1.1 x as fast),
// and a row alone has more loads than anything else. Many rows are better off with the compiler's
// order.
template <int kVectors, bool kInOrder>
__attribute__((always_inline)) inline void LoadVectors(const uint8_t* codes, __m512i* vectors) {
#pragma GCC unroll 16
  for (int i = 0; i < kVectors; ++i) {
    vectors[i] = Vector(codes, i);
    if constexpr (kInOrder) __asm__("" : "+v"(vectors[i]));
  }
}

// Quad kQuad of the plane of kPlaneBits in `vectors`, moved to bits kTo and up.
template <int kPlaneBits, int kQuad, int kTo>
__attribute__((always_inline)) inline __m512i PlaneQuad(const __m512i* vectors) {
  constexpr int kVectors = 16 * kPlaneBits / 8;
  const __m512i v = vectors[kQuad % kVectors];
  if constexpr (kPlaneBits == 8) return v;
  constexpr int kMask = ((1 << kPlaneBits) - 1) << kTo;
  return _mm512_and_si512(Shift<kQuad / kVectors * kPlaneBits - kTo>(v), _mm512_set1_epi8(kMask));
}

template <int kBits, int kQuad>
__attribute__((always_inline)) inline __m512i CodesOfQuad(const __m512i* vectors) {
  constexpr CodePlanes kPlanes = PlanesOf(kBits);
  __m512i w = PlaneQuad<kPlanes.low, kQuad, 0>(vectors);
  if constexpr (kPlanes.high != 0) {
    constexpr int kLowVectors = 16 * kPlanes.low / 8;
    w = _mm512_or_si512(w, PlaneQuad<kPlanes.high, kQuad, kPlanes.low>(vectors + kLowVectors));
  }
  return w;
}

// Codes of affine encodings as they are.
template <int kBits, bool kInOrder = false>
struct WholeCodes {
  static constexpr int64_t kBytes = 128 * kBits;
  using Shifts = NoShifts;

  __attribute__((always_inline)) void operator()(const uint8_t* codes, __m512i* w) const {
    __m512i vectors[2 * kBits];
    LoadVectors<2 * kBits, kInOrder>(codes, vectors);
    Unpack<0>(vectors, w);
  }
  template <int kQuad>
  __attribute__((always_inline)) static void Unpack(const __m512i* vectors, __m512i* w) {
    w[kQuad] = CodesOfQuad<kBits, kQuad>(vectors);
    if constexpr (kQuad + 1 < 16) Unpack<kQuad + 1>(vectors, w);
  }
};

// UnpackFn with what unpacks a step.
template <class Codes>
__attribute__((always_inline)) inline void UnpackSteps(const Codes& unpack, const uint8_t* codes,
                                                       int64_t steps, int zero, uint8_t* out) {
  const __m512i zeros = _mm512_set1_epi8(static_cast<char>(zero));
  for (int64_t step = 0; step < steps; ++step) {
    __m512i w[16];
    unpack(codes + step * Codes::kBytes, w);
#pragma GCC unroll 16
    for (int64_t quad = 0; quad < kStepQuads; ++quad) {
      _mm512_storeu_si512(out + quad * kVectorBytes, _mm512_sub_epi8(w[quad], zeros));
    }
    out += kStepQuads * kVectorBytes;
  }
}

}  // namespace
}  // namespace rankine
