// A step (16 outputs x 64 columns) is transposed, dword by dword, to the sixteen vectors that 8-bit
// codes stand in; narrower codes are then laid over each other. Bound by memory, so AVX2 is enough.
#include "kernels/cpu/block_packing.h"

#include <algorithm>
#include <cstring>

#include "kernels/api/block_layout.h"
#include "kernels/base/check.h"
#include "kernels/base/e8p.h"
#include "kernels/cpu/block_kernels.h"
#include "kernels/cpu/transpose.h"

namespace rankine {
namespace {

constexpr int64_t kTileBytes = kBlockRows * kStepColumns;

// Codes of one step, one byte each: [16 outputs][64 columns] to [16 quads][16 outputs][4].
void TransposeStep(const uint8_t* tile, uint8_t* quads) {
  for (int64_t rows = 0; rows < kBlockRows; rows += 8) {
    for (int64_t quad = 0; quad < kStepQuads; quad += 8) {
      Transpose8x8(reinterpret_cast<const char*>(tile) + rows * kStepColumns + quad * 4,
                   kStepColumns, reinterpret_cast<uint32_t*>(quads) + quad * kBlockRows + rows);
    }
  }
}

// Bits [from, from + bits) of all codes, as a plane of `bits`.
void LayPlane(const uint8_t* quads, int from, int bits, uint8_t* plane) {
  const int64_t vectors = kStepQuads * bits / 8, bytes = vectors * kVectorBytes;
  const int mask = (1 << bits) - 1;
  std::memset(plane, 0, bytes);
  for (int64_t part = 0; part < 8 / bits; ++part) {
    const uint8_t* source = quads + part * bytes;
    const int shift = static_cast<int>(part) * bits;
    for (int64_t i = 0; i < bytes; ++i) {
      plane[i] = static_cast<uint8_t>(plane[i] | ((source[i] >> from & mask) << shift));
    }
  }
}

void LayCodes(const uint8_t* quads, int bits, uint8_t* step) {
  const CodePlanes planes = PlanesOf(bits);
  LayPlane(quads, 0, planes.low, step);
  if (planes.high != 0) {
    LayPlane(quads, planes.low, planes.high, step + kStepQuads * planes.low / 8 * kVectorBytes);
  }
}

// The rows of one block that a call packs: lanes [first_lane, first_lane + rows).
struct BlockPart {
  const BlockRows* source = nullptr;
  int64_t source_row = 0;
  int64_t first_lane = 0;
  int64_t rows = 0;
  char* block = nullptr;
};

// Every byte of a step belongs to one output, so rows packed by others are left alone.
void PackStep(const BlockPart& part, int64_t column, int bits, int64_t step_bytes, uint8_t* out) {
  alignas(64) uint8_t tile[kTileBytes] = {}, quads[kTileBytes], step[kTileBytes];
  const int64_t count = std::min(kStepColumns, part.source->cols - column);
  for (int64_t r = 0; r < part.rows; ++r) {
    std::memcpy(tile + (part.first_lane + r) * kStepColumns,
                part.source->codes + (part.source_row + r) * part.source->cols + column, count);
  }
  TransposeStep(tile, quads);
  if (part.rows == kBlockRows) return LayCodes(quads, bits, out);
  LayCodes(quads, bits, step);
  for (int64_t vector = 0; vector < step_bytes; vector += kVectorBytes) {
    std::memcpy(out + vector + part.first_lane * 4, step + vector + part.first_lane * 4,
                part.rows * 4);
  }
}

// One side of the header of a chunk that begins at `column`.
void PackNumbers(const BlockPart& part, const ChunkLayout& layout, const HeaderNumbers& numbers,
                 int64_t column, const float* values, const int8_t* codes, char* chunk) {
  const BlockRows& source = *part.source;
  const int64_t unit = numbers.two_level ? kSuperBlockColumns : layout.group;
  // A group of a whole row is repeated for each 128 columns.
  const int64_t source_unit =
      numbers.two_level ? kSuperBlockColumns : source.encoding.GroupColumns(source.cols);
  const int64_t per_row = CeilDiv(source.cols, source_unit);
  const int64_t end = std::min(layout.columns, source.cols - column);
  for (int64_t r = 0; r < part.rows; ++r) {
    const int64_t row = part.source_row + r, lane = part.first_lane + r;
    for (int64_t c = 0; c < end; c += unit) {
      const float value = values[row * per_row + (column + c) / source_unit];
      const int64_t index = c / unit * kBlockRows + lane;
      char* at = chunk + numbers.numbers_offset;
      if (numbers.is_f32) {
        reinterpret_cast<float*>(at)[index] = value;
      } else {
        reinterpret_cast<F16*>(at)[index] = ToF16(value);
      }
    }
    for (int64_t c = 0; numbers.two_level && c < end; c += layout.group) {
      reinterpret_cast<int8_t*>(chunk +
                                numbers.codes_offset)[c / layout.group * kBlockRows + lane] =
          codes[row * source.groups() + (column + c) / layout.group];
    }
  }
}

// Codewords of one step; those of absent columns stay zero, and meet zeros of x.
void PackE8PStep(const BlockPart& part, int64_t column, uint8_t* out) {
  const BlockRows& source = *part.source;
  const int64_t octets = std::min(kStepColumns, source.cols - column) / kE8PColumns;
  for (int64_t r = 0; r < part.rows; ++r) {
    const uint8_t* from =
        source.codes + (part.source_row + r) * source.code_bytes_per_row() + column / 4;
    for (int64_t octet = 0; octet < octets; ++octet) {
      std::memcpy(out + 2 * E8PPlace(part.first_lane + r, octet), from + 2 * octet, 2);
    }
  }
}

void PackE8PPart(const BlockPart& part) {
  const BlockRows& source = *part.source;
  char* chunk = part.block;
  for (int64_t index = 0; index < NumChunks(source.cols); ++index) {
    const ChunkLayout layout = LayoutOfChunk(source.encoding, ColumnsOfChunk(source.cols, index));
    const int64_t column = index * kChunkColumns;
    std::fill_n(reinterpret_cast<float*>(chunk) + part.first_lane, part.rows, source.scales[0]);
    auto* codes = reinterpret_cast<uint8_t*>(chunk + layout.codes_offset);
    for (int64_t c = 0; c < layout.columns; c += kStepColumns, codes += layout.step_bytes) {
      PackE8PStep(part, column + c, codes);
    }
    chunk += layout.bytes;
  }
}

void PackPart(const BlockPart& part) {
  if (part.source->encoding.kind == EncodingKind::kE8P) return PackE8PPart(part);
  const BlockRows& source = *part.source;
  const int bits = CodeBits(source.encoding);
  char* chunk = part.block;
  for (int64_t index = 0; index < NumChunks(source.cols); ++index) {
    const ChunkLayout layout = LayoutOfChunk(source.encoding, ColumnsOfChunk(source.cols, index));
    const int64_t column = index * kChunkColumns;
    PackNumbers(part, layout, layout.scales, column, source.scales, source.scale_codes, chunk);
    if (layout.offsets.present) {
      PackNumbers(part, layout, layout.offsets, column, source.offsets, source.offset_codes, chunk);
    }
    auto* codes = reinterpret_cast<uint8_t*>(chunk + layout.codes_offset);
    for (int64_t c = 0; c < layout.columns; c += kStepColumns, codes += layout.step_bytes) {
      PackStep(part, column + c, bits, layout.step_bytes, codes);
    }
    chunk += layout.bytes;
  }
}

// The weight at (output, column of the step) before its scale.
float UnscaledValue(const Encoding& encoding, const uint8_t* step, int64_t output, int64_t column) {
  if (encoding.kind == EncodingKind::kE8P) {
    uint16_t codeword;
    int8_t quarters[kE8PColumns];
    std::memcpy(&codeword, step + 2 * E8PPlace(output, column / kE8PColumns), 2);
    DecodeE8P(codeword, quarters);
    return static_cast<float>(quarters[column % kE8PColumns]) * 0.25f;
  }
  const int code = CodeAt(step, CodeBits(encoding), output, column);
  return encoding.kind == EncodingKind::kNf4 ? kNf4Levels[code]
                                             : static_cast<float>(code - encoding.ZeroCode());
}

}  // namespace

void PackBlocks(const PackBlocksArgs& args) {
  const BlockRows& source = args.source;
  RK_CHECK(source.encoding == args.core.encoding && source.cols == args.core.k);
  RK_CHECK(args.row_offset >= 0 && args.row_offset + source.rows <= args.core.n);
  for (int64_t row = 0; row < source.rows;) {
    const int64_t to = args.row_offset + row, lane = to % kBlockRows;
    const int64_t rows = std::min(kBlockRows - lane, source.rows - row);
    PackPart(
        {.source = &source,
         .source_row = row,
         .first_lane = lane,
         .rows = rows,
         .block = static_cast<char*>(args.core.data) + to / kBlockRows * args.core.block_stride});
    row += rows;
  }
}

void GatherBlockRow(const PackedCore& core, int64_t row, float* out) {
  const Encoding& encoding = core.encoding;
  const int64_t lane = row % kBlockRows;
  const char* chunk = static_cast<const char*>(core.data) + row / kBlockRows * core.block_stride;
  float scales[kMaxChunkColumns / 16 * kBlockRows], offsets[kMaxChunkColumns / 16 * kBlockRows];
  for (int64_t index = 0; index < NumChunks(core.k); ++index) {
    const ChunkLayout layout = LayoutOfChunk(encoding, ColumnsOfChunk(core.k, index));
    const int64_t column = index * kChunkColumns;
    ReadHeader(layout, layout.scales, chunk, scales);
    if (layout.offsets.present) ReadHeader(layout, layout.offsets, chunk, offsets);
    const auto* codes = reinterpret_cast<const uint8_t*>(chunk + layout.codes_offset);
    const int64_t count = std::min(layout.columns, core.k - column);
    for (int64_t c = 0; c < count; ++c) {
      const uint8_t* step = codes + c / kStepColumns * layout.step_bytes;
      const int64_t number = c / layout.group * kBlockRows + lane;
      float value = UnscaledValue(encoding, step, lane, c % kStepColumns) * scales[number];
      if (layout.offsets.present) value += offsets[number];
      out[column + c] = value;
    }
    chunk += layout.bytes;
  }
  std::fill(out + core.k, out + RoundUp(core.k, kColumnPad), 0.0f);
}

}  // namespace rankine
