#include "kernels/ref/block_core.h"

#include <algorithm>
#include <cstring>

#include "kernels/api/block_layout.h"
#include "kernels/base/check.h"
#include "kernels/base/e8p.h"

namespace rankine {
namespace {

// Where an element stands: its chunk and the column in it.
struct Position {
  ChunkLayout layout;
  char* chunk;
  int64_t lane, column;
};

Position Locate(const PackedCore& core, int64_t row, int64_t col) {
  Position p;
  p.chunk = static_cast<char*>(core.data) + row / kBlockRows * core.block_stride;
  const int64_t index = std::min(col / kChunkColumns, NumChunks(core.k) - 1);
  for (int64_t i = 0; i <= index; ++i) {
    if (i > 0) p.chunk += p.layout.bytes;
    p.layout = LayoutOfChunk(core.encoding, ColumnsOfChunk(core.k, i));
  }
  p.lane = row % kBlockRows;
  p.column = col - index * kChunkColumns;
  return p;
}

char* StepOf(const Position& p) {
  return p.chunk + p.layout.codes_offset + p.column / kStepColumns * p.layout.step_bytes;
}

float NumberAt(const HeaderNumbers& numbers, const Position& p) {
  if (!numbers.present) return 0;
  const int64_t group = p.column / p.layout.group;
  const char* at = p.chunk + numbers.numbers_offset;
  if (numbers.is_f32) return reinterpret_cast<const float*>(at)[group * kBlockRows + p.lane];
  const F16* halves = reinterpret_cast<const F16*>(at);
  if (!numbers.two_level) return ToFloat(halves[group * kBlockRows + p.lane]);
  const int8_t* codes = reinterpret_cast<const int8_t*>(p.chunk + numbers.codes_offset);
  return ToFloat(halves[p.column / kSuperBlockColumns * kBlockRows + p.lane]) *
         static_cast<float>(codes[group * kBlockRows + p.lane]);
}

void PutNumber(const HeaderNumbers& numbers, const Position& p, float number, int8_t code) {
  const int64_t group = p.column / p.layout.group;
  char* at = p.chunk + numbers.numbers_offset;
  if (numbers.is_f32) {
    reinterpret_cast<float*>(at)[group * kBlockRows + p.lane] = number;
    return;
  }
  const int64_t index = numbers.two_level ? p.column / kSuperBlockColumns : group;
  reinterpret_cast<F16*>(at)[index * kBlockRows + p.lane] = ToF16(number);
  if (numbers.two_level) {
    reinterpret_cast<int8_t*>(p.chunk + numbers.codes_offset)[group * kBlockRows + p.lane] = code;
  }
}

// The number and the small integer of a side of `source` for an element.
void CopyNumber(const BlockRows& source, int64_t row, int64_t col, const float* values,
                const int8_t* codes, const HeaderNumbers& numbers, const Position& p) {
  const int64_t group = row * source.groups() + col / source.encoding.GroupColumns(source.cols);
  const int64_t index = codes == nullptr ? group : row * source.supers() + col / kSuperBlockColumns;
  PutNumber(numbers, p, values[index], codes == nullptr ? int8_t{0} : codes[group]);
}

}  // namespace

BlockParts BlockPartsAt(const PackedCore& core, int64_t row, int64_t col) {
  const Position p = Locate(core, row, col);
  const auto* step = reinterpret_cast<const uint8_t*>(StepOf(p));
  const int64_t column = p.column % kStepColumns;
  if (core.encoding.kind == EncodingKind::kE8P) {
    int8_t quarters[kE8PColumns];
    uint16_t codeword;
    std::memcpy(&codeword, step + 2 * E8PPlace(p.lane, column / kE8PColumns), 2);
    DecodeE8P(codeword, quarters);
    return {.scale = 0.25f * NumberAt(p.layout.scales, p), .code = quarters[column % kE8PColumns]};
  }
  const int code = CodeAt(step, CodeBits(core.encoding), p.lane, column);
  return {.scale = NumberAt(p.layout.scales, p),
          .offset = NumberAt(p.layout.offsets, p),
          .code = code - core.encoding.ZeroCode()};
}

float BlockElement(const PackedCore& core, int64_t row, int64_t col) {
  const BlockParts parts = BlockPartsAt(core, row, col);
  if (core.encoding.kind == EncodingKind::kNf4) return parts.scale * kNf4Levels[parts.code];
  const float scaled = parts.scale * static_cast<float>(parts.code);
  return core.encoding.HasOffsets() ? scaled + parts.offset : scaled;
}

void RefPackBlocks(const PackBlocksArgs& args) {
  const BlockRows& source = args.source;
  RK_CHECK(source.encoding == args.core.encoding && source.cols == args.core.k);
  RK_CHECK(args.row_offset >= 0 && args.row_offset + source.rows <= args.core.n);
  for (int64_t row = 0; row < source.rows; ++row) {
    for (int64_t col = 0; col < source.cols; ++col) {
      const Position p = Locate(args.core, args.row_offset + row, col);
      if (source.encoding.kind == EncodingKind::kE8P) {
        if (col % kE8PColumns != 0) continue;
        std::memcpy(StepOf(p) + 2 * E8PPlace(p.lane, p.column % kStepColumns / kE8PColumns),
                    source.codes + row * source.code_bytes_per_row() + col / 4, 2);
        PutNumber(p.layout.scales, p, source.scales[0], 0);
        continue;
      }
      OrCodeAt(reinterpret_cast<uint8_t*>(StepOf(p)), CodeBits(source.encoding), p.lane,
               p.column % kStepColumns, source.codes[row * source.cols + col]);
      CopyNumber(source, row, col, source.scales, source.scale_codes, p.layout.scales, p);
      if (p.layout.offsets.present) {
        CopyNumber(source, row, col, source.offsets, source.offset_codes, p.layout.offsets, p);
      }
    }
  }
}

}  // namespace rankine
