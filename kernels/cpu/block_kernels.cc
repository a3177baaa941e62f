#include "kernels/cpu/block_kernels.h"

namespace rankine {
namespace {

using FindTile = BlockTileFn (*)(int bits, int64_t group, bool offsets);

// nf4 levels are no integers: such cores take float activations alone.
BlockTileFn TileOf(const Encoding& encoding, FindTile find) {
  if (encoding.kind != EncodingKind::kAffine) return nullptr;
  return find(encoding.bits, PackedGroupColumns(encoding), encoding.HasOffsets());
}

}  // namespace

BlockKernels FindBlockKernelsAvx2(const Encoding& encoding) {
  return {.tile = TileOf(encoding, FindBlockTileAvx2), .widen = FindWidenAvx2(encoding)};
}

BlockKernels FindBlockKernelsAvx512(const Encoding& encoding) {
  return {.tile = TileOf(encoding, FindBlockTileAvx2), .widen = FindWidenAvx512(encoding)};
}

BlockKernels FindBlockKernelsAvx512Vnni(const Encoding& encoding) {
  return {.tile = TileOf(encoding, FindBlockTileAvx512Vnni), .widen = FindWidenAvx512(encoding)};
}

}  // namespace rankine
