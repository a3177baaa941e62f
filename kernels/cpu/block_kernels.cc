#include "kernels/cpu/block_kernels.h"

namespace rankine {
namespace {

using FindTile = BlockTileFn (*)(int bits, int64_t group, bool offsets);

// nf4 levels are no integers: such cores take float activations alone.
BlockTileFn TileOf(const Encoding& encoding, FindTile find, BlockTileFn e8p) {
  if (encoding.kind == EncodingKind::kE8P) return e8p;
  if (encoding.kind != EncodingKind::kAffine) return nullptr;
  return find(encoding.bits, PackedGroupColumns(encoding), encoding.HasOffsets());
}

}  // namespace

BlockKernels FindBlockKernelsAvx2(const Encoding& encoding) {
  return {.tile = TileOf(encoding, FindBlockTileAvx2, E8PTileAvx2()),
          .widen = FindWidenAvx2(encoding)};
}

BlockKernels FindBlockKernelsAvx512(const Encoding& encoding) {
  return {.tile = TileOf(encoding, FindBlockTileAvx2, E8PTileAvx2()),
          .widen = FindWidenAvx512(encoding)};
}

BlockKernels FindBlockKernelsAvx512Vnni(const Encoding& encoding) {
  static const bool has_vbmi =
      __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bitalg");
  const BlockTileFn e8p = has_vbmi ? E8PTileAvx512Vbmi() : E8PTileAvx512Vnni();
  return {.tile = TileOf(encoding, FindBlockTileAvx512Vnni, e8p),
          .widen = FindWidenAvx512(encoding)};
}

}  // namespace rankine
