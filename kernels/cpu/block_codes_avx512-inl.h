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

// Quad kQuad of a plane of kPlaneBits at `codes`, moved to bits kTo and up.
template <int kPlaneBits, int kQuad, int kTo>
__attribute__((always_inline)) inline __m512i PlaneQuad(const uint8_t* codes) {
  constexpr int kVectors = 16 * kPlaneBits / 8;
  const __m512i v = Vector(codes, kQuad % kVectors);
  if constexpr (kPlaneBits == 8) return v;
  constexpr int kMask = ((1 << kPlaneBits) - 1) << kTo;
  return _mm512_and_si512(Shift<kQuad / kVectors * kPlaneBits - kTo>(v), _mm512_set1_epi8(kMask));
}

template <int kBits, int kQuad>
__attribute__((always_inline)) inline __m512i CodesOfQuad(const uint8_t* codes) {
  constexpr CodePlanes kPlanes = PlanesOf(kBits);
  __m512i w = PlaneQuad<kPlanes.low, kQuad, 0>(codes);
  if constexpr (kPlanes.high != 0) {
    constexpr int kLowBytes = 16 * kPlanes.low / 8 * static_cast<int>(kVectorBytes);
    w = _mm512_or_si512(w, PlaneQuad<kPlanes.high, kQuad, kPlanes.low>(codes + kLowBytes));
  }
  return w;
}

// Codes of affine encodings as they are.
template <int kBits>
struct WholeCodes {
  static constexpr int64_t kBytes = 128 * kBits;
  using Shifts = NoShifts;

  __attribute__((always_inline)) void operator()(const uint8_t* codes, __m512i* w) const {
    Unpack<0>(codes, w);
  }
  template <int kQuad>
  __attribute__((always_inline)) static void Unpack(const uint8_t* codes, __m512i* w) {
    w[kQuad] = CodesOfQuad<kBits, kQuad>(codes);
    if constexpr (kQuad + 1 < 16) Unpack<kQuad + 1>(codes, w);
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
