#include "kernels/cpu/block_kernels.h"

namespace rankine {
namespace {

// Fewer rows than this share the unpacking of a chunk among too few, and fill too little of a tile.
constexpr int64_t kManyRowsOfAmx = 20;

bool HasVbmi() {
  static const bool has =
      __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bitalg");
  return has;
}

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
  const BlockTileFn e8p = HasVbmi() ? E8PTileAvx512Vbmi() : E8PTileAvx512Vnni();
  return {.tile = TileOf(encoding, FindBlockTileAvx512Vnni, e8p),
          .widen = FindWidenAvx512(encoding)};
}

BlockKernels FindBlockKernelsAmx(const Encoding& encoding) {
  BlockKernels kernels = FindBlockKernelsAvx512Vnni(encoding);
  if (encoding.kind == EncodingKind::kAffine) {
    kernels.unpack = FindUnpackAvx512(encoding.bits);
  } else if (encoding.kind == EncodingKind::kE8P && HasVbmi()) {
    kernels.unpack = UnpackE8PAvx512Vbmi();
  }
  if (kernels.unpack != nullptr) {
    FindUnpackedTilesAmx(PackedGroupColumns(encoding), encoding.HasOffsets(), &kernels);
    kernels.many_rows = kManyRowsOfAmx;
  }
  return kernels;
}

}  // namespace rankine
