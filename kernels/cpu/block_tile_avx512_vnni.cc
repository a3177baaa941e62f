// Tiles of block-encoded weights and quantised activations with the AVX512-VNNI dot product: a
// register of codes holds 16 outputs x 4 columns, four codes of x are broadcast to all lanes.
//
// Highway 1.0.3 has no wrapper for it. The target pragma comes after all includes: inline functions
// of headers must not be compiled for an instruction set that other files do not have.
#include <immintrin.h>

#include "kernels/api/quantized_rows.h"
#include "kernels/cpu/block_kernels.h"
#include "kernels/cpu/block_tile_select.h"
#include "kernels/cpu/e8p_unpack.h"

// g++ 12 takes the undefined pass-through operand inside its own intrinsics for a fault (bug
// 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")

#include "kernels/cpu/block_tile_avx512_vnni-inl.h"

namespace rankine {
namespace {

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

template <int kBits, int kQuad = 0>
__attribute__((always_inline)) inline void UnpackStep(const uint8_t* codes, __m512i* w) {
  w[kQuad] = CodesOfQuad<kBits, kQuad>(codes);
  if constexpr (kQuad + 1 < 16) UnpackStep<kBits, kQuad + 1>(codes, w);
}

template <int kBits, int kGroup, bool kOffsets>
void Tile(const BlockTileArgs& args) {
  RunTile<kGroup, kOffsets, 128 * kBits>(
      args, [](const uint8_t* codes, __m512i* w)
                __attribute__((always_inline)) { UnpackStep<kBits>(codes, w); });
}

// For machines without AVX512-VBMI: codewords are unpacked to memory one by one.
void E8PTile(const BlockTileArgs& args) {
  RunTile<64, false, 256>(
      args, [](const uint8_t* codes, __m512i* w) __attribute__((always_inline)) {
        alignas(64) uint8_t quads[kStepColumns * kBlockRows];
        UnpackE8PStep(codes, quads);
#pragma GCC unroll 16
        for (int q = 0; q < 16; ++q) w[q] = Vector(quads, q);
      });
}

template <int kBits, int kGroup, bool kOffsets>
struct Tiles {
  static constexpr BlockTileFn kFunction = Tile<kBits, kGroup, kOffsets>;
};

}  // namespace

#pragma GCC pop_options

BlockTileFn E8PTileAvx512Vnni() { return E8PTile; }

BlockTileFn FindBlockTileAvx512Vnni(int bits, int64_t group, bool offsets) {
  return SelectBlockTile<Tiles>(bits, group, offsets);
}

}  // namespace rankine
