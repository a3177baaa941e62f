// Products of block-encoded weights with many quantised rows, where tiles take unpacked codes
// (AMX). Per chunk, the codes of some blocks are unpacked and the rows' records gathered into
// tiles, both to L2; then a few rows at a time, whose records are in L1, meet one block after the
// other.
#include <algorithm>
#include <cstring>

#include "kernels/api/quantized_rows.h"
#include "kernels/cpu/huge_buffer.h"
#include "kernels/cpu/products_plan.h"

namespace rankine {
namespace {

constexpr int64_t kRowsOfTile = kBlockRows;
constexpr int64_t kTilesAtOnce = 2;
constexpr int64_t kMaxSteps = kMaxChunkColumns / kStepColumns;
constexpr int64_t kMaxRowTiles = kUnpackedPanel.rows / kRowsOfTile;
constexpr int64_t kMaxGroups = kMaxChunkColumns / 16;

// One chunk of a block.
struct UnpackedChunk {
  alignas(64) uint8_t codes[kMaxSteps * kStepColumns * kBlockRows];
  alignas(64) float scales[kMaxGroups * kBlockRows];
  alignas(64) float offsets[kMaxGroups * kBlockRows];
};

// What a panel works on, one for each thread.
struct Scratch {
  UnpackedChunk chunks[kUnpackedPanel.blocks];
  RecordTile x[kMaxRowTiles * kMaxSteps];
  alignas(64) float c[kUnpackedPanel.blocks][kUnpackedPanel.rows * kBlockRows];
};

Scratch& ScratchOfThread() {
  thread_local const HugeBuffer buffer(sizeof(Scratch));
  return *reinterpret_cast<Scratch*>(buffer.data());
}

// The sums of `record` over the groups of `group` columns.
const int32_t* MinusSums(const QuantizedRecord& record, int64_t group) {
  return group == 16   ? record.minus_sums16
         : group == 32 ? record.minus_sums32
                       : &record.minus_sum64;
}

class UnpackedPanel {
 public:
  UnpackedPanel(const Plan& plan, Range rows, Range blocks)
      : plan_(plan), rows_(rows), blocks_(blocks), row_tiles_(CeilDiv(rows.size(), kRowsOfTile)) {}

  void Run() {
    plan_.encoded.kernels.begin_tiles();
    for (int64_t chunk = 0; chunk < plan_.encoded.num_chunks; ++chunk) {
      GatherX(chunk);
      for (int64_t b = 0; b < blocks_.size(); ++b) Unpack(b, chunk);
      for (int64_t tile = 0; tile < row_tiles_; tile += kTilesAtOnce) {
        for (int64_t b = 0; b < blocks_.size(); ++b) Multiply(b, chunk, tile);
      }
    }
    plan_.encoded.kernels.end_tiles();
    plan_.kernels->epilogue({.c = scratch_.c[0],
                             .c_stride = kBlockRows,
                             .c_block_stride = kUnpackedPanel.rows * kBlockRows,
                             .rows = rows_.size(),
                             .blocks = blocks_.size(),
                             .product = plan_.product,
                             .first_row = rows_.begin,
                             .first_block = blocks_.begin});
  }

 private:
  const ChunkLayout& Layout(int64_t chunk) const { return plan_.encoded.Layout(chunk); }
  int64_t Steps(int64_t chunk) const { return Layout(chunk).columns / kStepColumns; }
  const char* Chunk(int64_t b, int64_t chunk) const {
    return plan_.Block(blocks_.begin + b) + chunk * plan_.encoded.chunk.bytes;
  }

  void GatherX(int64_t chunk) {
    const int64_t steps = Steps(chunk);
    for (int64_t tile = 0; tile < row_tiles_; ++tile) {
      for (int64_t step = 0; step < steps; ++step) {
        RecordTile& to = scratch_.x[tile * steps + step];
        const int64_t first = tile * kRowsOfTile;
        const int64_t rows = std::min(kRowsOfTile, rows_.size() - first);
        if (rows < kRowsOfTile) to = {};
        for (int64_t r = 0; r < rows; ++r) GatherRecord(first + r, chunk, step, r, &to);
      }
    }
  }

  void GatherRecord(int64_t row, int64_t chunk, int64_t step, int64_t r, RecordTile* to) {
    const MatrixView& x = plan_.product->x;
    const auto& record = reinterpret_cast<const QuantizedRecord*>(
        static_cast<const char*>(x.data) +
        (rows_.begin + row) * x.stride)[chunk * kChunkColumns / kStepColumns + step];
    std::memcpy(to->codes[r], record.codes, kStepColumns);
    to->scales[r] = record.scale;
    if (!plan_.encoded.chunk.offsets.present) return;
    const int64_t group = std::min(plan_.encoded.chunk.group, kStepColumns);
    const int32_t* sums = MinusSums(record, group);
    for (int64_t g = 0; g < kStepColumns / group; ++g) {
      to->minus_sums[g][r] = static_cast<float>(sums[g]);
    }
  }

  void Unpack(int64_t b, int64_t chunk) {
    const ChunkLayout& layout = Layout(chunk);
    const Encoding& encoding = plan_.product->weights.encoding;
    const char* data = Chunk(b, chunk);
    UnpackedChunk& to = scratch_.chunks[b];
    ReadScales(plan_, layout, data, to.scales);
    if (layout.offsets.present) ReadHeader(layout, layout.offsets, data, to.offsets);
    plan_.encoded.kernels.unpack(reinterpret_cast<const uint8_t*>(data + layout.codes_offset),
                                 Steps(chunk), layout.offsets.present ? 0 : encoding.ZeroCode(),
                                 to.codes);
  }

  // Row tiles [tile, tile + 2) with one block; each pair prefetches its share of the block's next
  // chunk.
  void Multiply(int64_t b, int64_t chunk, int64_t tile) {
    const int64_t steps = Steps(chunk), pairs = CeilDiv(row_tiles_, kTilesAtOnce);
    const int64_t lines = CeilDiv(Layout(chunk).bytes / 64, pairs);
    UnpackedChunk& from = scratch_.chunks[b];
    plan_.encoded.kernels.unpacked_tile(
        {.codes = from.codes,
         .scales = from.scales,
         .offsets = from.offsets,
         .group_shift = plan_.encoded.group_shift,
         .x = scratch_.x + tile * steps,
         .c = scratch_.c[b] + tile * kRowsOfTile * kBlockRows,
         .row_tiles = std::min(kTilesAtOnce, row_tiles_ - tile),
         .steps = steps,
         .first = chunk == 0,
         .next = Chunk(b, chunk) + Layout(chunk).bytes + tile / kTilesAtOnce * lines * 64,
         .next_lines = lines});
  }

  const Plan& plan_;
  const Range rows_, blocks_;
  const int64_t row_tiles_;
  Scratch& scratch_ = ScratchOfThread();
};

}  // namespace

bool RunsUnpacked(const Plan& plan) {
  const BlockKernels& kernels = plan.encoded.kernels;
  return plan.is_encoded() && IsQuantized(plan) && kernels.unpack != nullptr &&
         plan.num_rows >= kernels.many_rows;
}

void RunUnpackedPanel(const Plan& plan, Range rows, Range blocks) {
  UnpackedPanel(plan, rows, blocks).Run();
}

}  // namespace rankine
