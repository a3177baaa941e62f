// The tile of an instruction set for an encoding, from its template over bits, group and offsets.
#pragma once

#include "kernels/cpu/block_kernels.h"

namespace rankine {

// Tiles<bits, group, offsets>::kFunction is a BlockTileFn. Null for other numbers of bits.
template <template <int, int, bool> class Tiles>
BlockTileFn SelectBlockTile(int bits, int64_t group, bool offsets) {
  const auto of_group = [&]<int kBits, int kGroup>() -> BlockTileFn {
    return offsets ? Tiles<kBits, kGroup, true>::kFunction : Tiles<kBits, kGroup, false>::kFunction;
  };
  const auto of_bits = [&]<int kBits>() -> BlockTileFn {
    if (group == 16) return of_group.template operator()<kBits, 16>();
    if (group == 32) return of_group.template operator()<kBits, 32>();
    return of_group.template operator()<kBits, 64>();
  };
  switch (bits) {
    case 2:
      return of_bits.template operator()<2>();
    case 3:
      return of_bits.template operator()<3>();
    case 4:
      return of_bits.template operator()<4>();
    case 5:
      return of_bits.template operator()<5>();
    case 6:
      return of_bits.template operator()<6>();
    case 8:
      return of_bits.template operator()<8>();
    default:
      return nullptr;
  }
}

}  // namespace rankine
