#include "kernels/api/packed_core.h"

#include "kernels/base/check.h"

namespace rankine {
namespace {

// Bytes of one row of numbers [16] on the lowest level of a scale or an offset.
int64_t GroupBytes(const Encoding& encoding, bool two_level) {
  if (two_level) return kBlockRows;
  return kBlockRows * (encoding.HasF32Scales() ? 4 : 2);
}

int64_t NumbersBytes(const Encoding& encoding, int64_t columns, bool two_level) {
  const int64_t groups = CeilDiv(columns, PackedGroupColumns(encoding));
  const int64_t supers = two_level ? CeilDiv(columns, kSuperBlockColumns) : 0;
  return groups * GroupBytes(encoding, two_level) + supers * kBlockRows * 2;
}

}  // namespace

int64_t PackedGroupColumns(const Encoding& encoding) {
  RK_CHECK(!encoding.IsFloat());
  if (encoding.kind == EncodingKind::kE8P) return kMaxChunkColumns;
  return encoding.group == 0 ? 128 : encoding.group;
}

int64_t ChunkHeaderBytes(const Encoding& encoding, int64_t columns) {
  int64_t bytes = NumbersBytes(encoding, columns, encoding.HasTwoLevelScales());
  if (encoding.HasOffsets()) {
    bytes += NumbersBytes(encoding, columns, encoding.offset == OffsetKind::kTwoLevel);
  }
  return RoundUp(bytes, 64);
}

int64_t ChunkCodeBytes(const Encoding& encoding, int64_t columns) {
  const int64_t bits = encoding.kind == EncodingKind::kAffine ? encoding.bits
                       : encoding.kind == EncodingKind::kNf4  ? 4
                                                              : 2;
  return CeilDiv(columns, 64) * 64 * kBlockRows * bits / 8;
}

int64_t PackedBlockBytes(const Encoding& encoding, int64_t k) {
  int64_t bytes = 0;
  for (int64_t chunk = 0; chunk < NumChunks(k); ++chunk) {
    const int64_t columns = ColumnsOfChunk(k, chunk);
    bytes += ChunkHeaderBytes(encoding, columns) + ChunkCodeBytes(encoding, columns);
  }
  return bytes;
}

int64_t PackedBytes(const Encoding& encoding, int64_t n, int64_t k) {
  return CeilDiv(n, kBlockRows) * PackedBlockBytes(encoding, k);
}

}  // namespace rankine
