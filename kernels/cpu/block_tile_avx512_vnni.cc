// Tiles of block-encoded weights and quantised activations with the AVX512-VNNI dot product: a
// register of codes holds 16 outputs x 4 columns, four codes of x are broadcast to all lanes.
//
// Highway 1.0.3 has no wrapper for it. The target pragma comes after all includes: inline functions
// of headers must not be compiled for an instruction set that other files do not have.
#include <immintrin.h>

#include <type_traits>

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

// Codes of a single plane (2 or 4 bits) masked where they stand in their bytes.
template <int kBits>
struct CodesInPlace {
  static constexpr int64_t kBytes = 128 * kBits;
  static constexpr int kVectors = 2 * kBits;
  struct Shifts {
    static constexpr int Of(int quad) { return quad / kVectors * kBits; }
    static constexpr int kOfQuad[16] = {Of(0),  Of(1),  Of(2),  Of(3), Of(4),  Of(5),
                                        Of(6),  Of(7),  Of(8),  Of(9), Of(10), Of(11),
                                        Of(12), Of(13), Of(14), Of(15)};
  };

  __attribute__((always_inline)) void operator()(const uint8_t* codes, __m512i* w) const {
    __m512i vectors[kVectors];
    LoadVectors<kVectors, true>(codes, vectors);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 4
      for (int part = 0; part < 8 / kBits; ++part) {
        const int mask = ((1 << kBits) - 1) << (part * kBits);
        w[v + part * kVectors] = _mm512_and_si512(vectors[v], _mm512_set1_epi8(mask));
      }
    }
  }
};

template <int kBits, int kGroup, bool kOffsets>
void Tile(const BlockTileArgs& args) {
  using RowCodes =
      std::conditional_t<kBits == 2 || kBits == 4, CodesInPlace<kBits>, WholeCodes<kBits, true>>;
  if (args.rows == 1) return RunRow<RowCodes, kGroup, kOffsets>(args, {});
  RunRows<WholeCodes<kBits>, kGroup, kOffsets>(args, {});
}

// For machines without AVX512-VBMI: codewords are unpacked to memory one by one.
struct E8PCodes {
  static constexpr int64_t kBytes = 256;
  using Shifts = NoShifts;

  __attribute__((always_inline)) void operator()(const uint8_t* codes, __m512i* w) const {
    alignas(64) uint8_t quads[kStepColumns * kBlockRows];
    UnpackE8PStep(codes, quads);
#pragma GCC unroll 16
    for (int q = 0; q < 16; ++q) w[q] = Vector(quads, q);
  }
};

void E8PTile(const BlockTileArgs& args) { RunRows<E8PCodes, 64, false>(args, {}); }

template <int kBits>
void UnpackCodes(const uint8_t* codes, int64_t steps, int zero, uint8_t* out) {
  UnpackSteps(WholeCodes<kBits>(), codes, steps, zero, out);
}

template <int kBits, int kGroup, bool kOffsets>
struct Tiles {
  static constexpr BlockTileFn kFunction = Tile<kBits, kGroup, kOffsets>;
};

}  // namespace

#pragma GCC pop_options

BlockTileFn E8PTileAvx512Vnni() { return E8PTile; }

UnpackFn FindUnpackAvx512(int bits) {
  switch (bits) {
    case 2:
      return UnpackCodes<2>;
    case 3:
      return UnpackCodes<3>;
    case 4:
      return UnpackCodes<4>;
    case 5:
      return UnpackCodes<5>;
    case 6:
      return UnpackCodes<6>;
    case 8:
      return UnpackCodes<8>;
    default:
      return nullptr;
  }
}

BlockTileFn FindBlockTileAvx512Vnni(int bits, int64_t group, bool offsets) {
  return SelectBlockTile<Tiles>(bits, group, offsets);
}

}  // namespace rankine
