// Where the parts of a block-encoded block lie (packed_core.h has the picture): offsets of the
// header's parts in a chunk, and single codes in the bit planes.
#pragma once

#include <cstdint>

#include "kernels/api/packed_core.h"

namespace rankine {

// Columns whose codes stand together, and the outputs' quads in them.
inline constexpr int64_t kStepColumns = 64;
inline constexpr int64_t kStepQuads = kStepColumns / 4;
inline constexpr int64_t kVectorBytes = 4 * kBlockRows;

// One side of a header: the scales or the offsets.
struct HeaderNumbers {
  bool present = false;
  bool two_level = false;
  bool is_f32 = false;         // of one level
  int64_t numbers_offset = 0;  // f16 or f32 [groups][16]; two levels: f16 [supers][16]
  int64_t codes_offset = 0;    // two levels: i8 [groups][16]
};

struct ChunkLayout {
  int64_t columns = 0;  // a multiple of 64
  int64_t group = 0;    // columns
  int64_t groups = 0;
  int64_t supers = 0;
  HeaderNumbers scales, offsets;
  int64_t codes_offset = 0;
  int64_t step_bytes = 0;  // codes of 64 columns
  int64_t bytes = 0;
};

// `columns` is at most kMaxChunkColumns and a multiple of 64.
ChunkLayout LayoutOfChunk(const Encoding& encoding, int64_t columns);

// Bits of a stored code: those of the lower plane and of the upper one (0 = there is none).
struct CodePlanes {
  int low = 0, high = 0;
};
constexpr CodePlanes PlanesOf(int bits) {
  switch (bits) {
    case 3:
      return {2, 1};
    case 5:
      return {4, 1};
    case 6:
      return {4, 2};
    default:
      return {bits, 0};
  }
}
// Stored bits of a code: 4 for nf4.
constexpr int CodeBits(const Encoding& encoding) {
  return encoding.kind == EncodingKind::kNf4 ? 4 : encoding.bits;
}

// The code of (output in the block, column in the step) in the codes of a step, and its change.
uint8_t CodeAt(const uint8_t* step, int bits, int64_t output, int64_t column);
void OrCodeAt(uint8_t* step, int bits, int64_t output, int64_t column, uint8_t code);

// The index of a codeword in the codes of a step (octet = columns 8 octet .. 8 octet + 7).
inline int64_t E8PPlace(int64_t output, int64_t octet) {
  const int64_t quadword = output / 4 * 2 + output % 2, half = output % 4 / 2;
  return octet / 2 * 2 * kBlockRows + 4 * quadword + octet % 2 * 2 + half;
}

}  // namespace rankine
