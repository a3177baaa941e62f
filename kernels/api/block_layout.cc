#include "kernels/api/block_layout.h"

#include "kernels/base/check.h"

namespace rankine {
namespace {

// The byte and the shift of a code in a plane of `bits`: vectors hold 8 / bits quads, 16 bits / 8
// quads apart.
struct Place {
  int64_t byte;
  int shift;
};

Place PlaceOf(int bits, int64_t output, int64_t column) {
  const int64_t vectors = kStepQuads * bits / 8;
  const int64_t quad = column / 4;
  return {quad % vectors * kVectorBytes + output * 4 + column % 4,
          static_cast<int>(quad / vectors) * bits};
}

int64_t PlaneBytes(int bits) { return kStepQuads * bits / 8 * kVectorBytes; }

HeaderNumbers Numbers(const ChunkLayout& chunk, const Encoding& encoding, bool two_level,
                      int64_t* offset) {
  HeaderNumbers numbers{.present = true,
                        .two_level = two_level,
                        .is_f32 = !two_level && encoding.HasF32Scales(),
                        .numbers_offset = *offset};
  const int64_t count = two_level ? chunk.supers : chunk.groups;
  *offset += count * kBlockRows * (numbers.is_f32 ? 4 : 2);
  numbers.codes_offset = *offset;
  if (two_level) *offset += chunk.groups * kBlockRows;
  return numbers;
}

}  // namespace

ChunkLayout LayoutOfChunk(const Encoding& encoding, int64_t columns) {
  RK_CHECK(columns % kStepColumns == 0 && columns <= kMaxChunkColumns);
  ChunkLayout chunk{.columns = columns};
  chunk.codes_offset = ChunkHeaderBytes(encoding, columns);
  chunk.step_bytes = ChunkCodeBytes(encoding, kStepColumns);
  chunk.bytes = chunk.codes_offset + ChunkCodeBytes(encoding, columns);
  chunk.group = PackedGroupColumns(encoding);
  chunk.groups = CeilDiv(columns, chunk.group);
  chunk.supers = CeilDiv(columns, kSuperBlockColumns);
  int64_t offset = 0;
  chunk.scales = Numbers(chunk, encoding, encoding.HasTwoLevelScales(), &offset);
  if (encoding.HasOffsets()) {
    chunk.offsets = Numbers(chunk, encoding, encoding.offset == OffsetKind::kTwoLevel, &offset);
  }
  RK_CHECK(RoundUp(offset, 64) == chunk.codes_offset);
  return chunk;
}

uint8_t CodeAt(const uint8_t* step, int bits, int64_t output, int64_t column) {
  const CodePlanes planes = PlanesOf(bits);
  const Place low = PlaceOf(planes.low, output, column);
  int code = step[low.byte] >> low.shift & ((1 << planes.low) - 1);
  if (planes.high != 0) {
    const Place high = PlaceOf(planes.high, output, column);
    const int part = step[PlaneBytes(planes.low) + high.byte] >> high.shift;
    code |= (part & ((1 << planes.high) - 1)) << planes.low;
  }
  return static_cast<uint8_t>(code);
}

void OrCodeAt(uint8_t* step, int bits, int64_t output, int64_t column, uint8_t code) {
  const CodePlanes planes = PlanesOf(bits);
  const Place low = PlaceOf(planes.low, output, column);
  step[low.byte] |= static_cast<uint8_t>((code & ((1 << planes.low) - 1)) << low.shift);
  if (planes.high != 0) {
    const Place high = PlaceOf(planes.high, output, column);
    step[PlaneBytes(planes.low) + high.byte] |=
        static_cast<uint8_t>(code >> planes.low << high.shift);
  }
}

}  // namespace rankine
