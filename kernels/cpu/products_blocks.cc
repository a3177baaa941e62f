// Products with block-encoded weights. A chunk (512 columns of 16 outputs) is the unit: its header
// is expanded to f32 on the stack, then its codes meet the activations, as int8 dot products or
// widened to f32. The same chunks in the same order serve few rows and many.
#include <algorithm>
#include <limits>

#include "kernels/api/quantized_rows.h"
#include "kernels/base/check.h"
#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/products_plan.h"

namespace rankine {
namespace {

constexpr int64_t kRecordBytes = sizeof(QuantizedRecord);
constexpr int64_t kRecordsOfChunk = kChunkColumns / kRecordColumns;
constexpr int64_t kMaxGroups = kMaxChunkColumns / 16;

// What to prefetch in the order in which it will be read: `bytes` from `at` on, then from `then`.
struct Ahead {
  const char* at = nullptr;
  int64_t bytes = std::numeric_limits<int64_t>::max();
  const char* then = nullptr;
};

class EncodedRun {
 public:
  EncodedRun(const Plan& plan, bool pages_in_turn) : plan_(plan) {
    tile_.pages_in_turn = pages_in_turn;
    const Encoding& encoding = plan.product->weights.encoding;
    tile_.group_shift = plan.encoded.group_shift;
    while (1 << tile_.zero_bits < encoding.ZeroCode()) ++tile_.zero_bits;
  }

  const ChunkLayout& Layout(int64_t chunk) const { return plan_.encoded.Layout(chunk); }

  // Chains of `rows` with one chunk of one block.
  void Quantized(int64_t block, int64_t chunk, Range rows, const Ahead& ahead, float* c) {
    const ChunkLayout& layout = ReadHeaders(block, chunk);
    tile_.c = c;
    tile_.rows = rows.size();
    tile_.first = chunk == 0;
    const int64_t steps = layout.columns / kStepColumns;
    const int64_t prefetched = PrefetchedOfStep(layout.step_bytes);
    const int64_t before = StepsBefore(ahead, prefetched);
    if (before >= steps) {
      RunSteps(steps, ahead.at);
      PrefetchRest(ahead.at + steps * prefetched, ahead.at + layout.bytes);
      return;
    }
    if (before > 0) {
      RunSteps(before, ahead.at);
      SkipSteps(before, layout);
    }
    RunSteps(steps - before, ahead.then);
    PrefetchRest(ahead.then + (steps - before) * prefetched,
                 ahead.then + layout.bytes - before * prefetched);
  }

  // Records of a chunk of `rows`, as they lie.
  void PointX(int64_t chunk, Range rows) {
    tile_.x = static_cast<const char*>(plan_.product->x.data) +
              rows.begin * plan_.product->x.stride + chunk * kRecordsOfChunk * kRecordBytes;
    tile_.x_stride = plan_.product->x.stride;
    tile_.x_step = kRecordBytes;
  }

  // The same with float activations, in `x` [rows][kMaxChunkColumns] as f32.
  void Widened(int64_t block, int64_t chunk, const float* x, int64_t rows, float* c) {
    const ChunkLayout& layout = ReadHeaders(block, chunk);
    plan_.encoded.kernels.widen({.codes = tile_.codes,
                                 .scales = scales_,
                                 .offsets = tile_.offsets,
                                 .group = layout.group,
                                 .zero = plan_.product->weights.encoding.ZeroCode(),
                                 .steps = layout.columns / kStepColumns,
                                 .out = weights_});
    const int64_t max_rows = plan_.kernels->max_rows;
    for (int64_t row = 0; row < rows; row += max_rows) {
      const int64_t now = std::min(max_rows, rows - row);
      plan_.kernels->stream.single[now](
          {.w = reinterpret_cast<const char*>(weights_),
           .x = reinterpret_cast<const char*>(x + row * kMaxChunkColumns),
           .x_stride = kMaxChunkColumns * sizeof(float),
           .c = c + row * kBlockRows,
           .c_stride = kBlockRows,
           .steps = layout.columns,
           .first = chunk == 0,
           .next = reinterpret_cast<const char*>(weights_)});
    }
  }

  // Columns of a chunk of `rows` as f32, zero beyond the last column.
  void LoadX(int64_t chunk, Range rows, float* x) const {
    const int64_t first = chunk * kChunkColumns;
    const int64_t count = std::min(Layout(chunk).columns, plan_.product->weights.k - first);
    for (int64_t r = 0; r < rows.size(); ++r) {
      float* row = x + r * kMaxChunkColumns;
      plan_.kernels->load_x(plan_.product->x, rows.begin + r, first, count,
                            reinterpret_cast<char*>(row));
      std::fill(row + count, row + Layout(chunk).columns, 0.0f);
    }
  }

 private:
  // Whole groups of steps that prefetch from ahead.at.
  int64_t StepsBefore(const Ahead& ahead, int64_t prefetched) const {
    const int64_t steps = ahead.bytes / prefetched;
    return steps >> tile_.group_shift << tile_.group_shift;
  }

  void RunSteps(int64_t steps, const char* next) {
    tile_.steps = steps;
    tile_.next = next;
    plan_.encoded.kernels.tile(tile_);
  }

  void SkipSteps(int64_t steps, const ChunkLayout& layout) {
    const int64_t groups = layout.group < kStepColumns ? steps * (kStepColumns / layout.group)
                                                       : steps >> tile_.group_shift;
    tile_.codes += steps * layout.step_bytes;
    tile_.scales += groups * kBlockRows;
    if (tile_.offsets != nullptr) tile_.offsets += groups * kBlockRows;
    tile_.x += steps * tile_.x_step;
    tile_.first = false;
  }

  // What tiles leave of a chunk with a long header. Of Q4_1, whose headers are a fifth, 4 rows took
  // 1.14 x as long without.
  void PrefetchRest(const char* begin, const char* end) const {
    const int64_t lines = CeilDiv(end - begin, 64);
    if (tile_.rows > 1) {
      PrefetchLines<2>(begin, lines, tile_.pages_in_turn);
    } else {
      PrefetchLines<3>(begin, lines, tile_.pages_in_turn);
    }
  }

  const ChunkLayout& ReadHeaders(int64_t block, int64_t chunk) {
    const ChunkLayout& layout = Layout(chunk);
    const char* data = plan_.Block(block) + chunk * plan_.encoded.chunk.bytes;
    ReadScales(plan_, layout, data, scales_);
    if (layout.offsets.present) ReadHeader(layout, layout.offsets, data, offsets_);
    tile_.codes = reinterpret_cast<const uint8_t*>(data + layout.codes_offset);
    tile_.scales = scales_;
    tile_.offsets = layout.offsets.present ? offsets_ : nullptr;
    return layout;
  }

  const Plan& plan_;
  BlockTileArgs tile_;
  alignas(64) float scales_[kMaxGroups * kBlockRows];
  alignas(64) float offsets_[kMaxGroups * kBlockRows];
  alignas(64) float weights_[kMaxChunkColumns * kBlockRows];
};

// Few rows read one block after the other, one stream a thread: on Zen 5 with 2 rows 1.07 to 1.18 x
// as fast as four blocks in turn, with 4 rows 1.02 to 1.11, with 8 rows 0.93 to 1.06.
constexpr int64_t kMaxStreamRows = 4;
// With more rows so many blocks share a chunk of x in L1, and what the next chunk of each will read
// is prefetched meanwhile: with 8 rows a chunk takes 0.3 us, two latencies of memory.
constexpr int64_t kSharedBlocks = 4;

// How few rows prefetch a run of blocks that they stream.
struct StreamRun {
  StreamRun() = default;
  StreamRun(const Plan& plan, Range blocks)
      : end(plan.Block(blocks.end)),
        pages_in_turn(PrefetchesPagesInTurn(end - plan.Block(blocks.begin))),
        ahead(pages_in_turn ? kPrefetchWindow : BlockPrefetchBytes()) {}

  bool is_empty() const { return end == nullptr; }

  const char* end = nullptr;
  bool pages_in_turn = false;
  int64_t ahead = 0;  // bytes
};

// Rows with up to a panel's blocks, chunk by chunk. `following` is read after them, block by
// block; rows that stream a run of blocks say where it ends and `following` comes next.
class BlockGroup {
 public:
  BlockGroup(const Plan& plan, Range rows, const StreamRun& run = {})
      : plan_(plan), rows_(rows), run_(run), encoded_(plan, run.pages_in_turn) {}

  void Run(Range blocks, const char* following) {
    for (int64_t chunk = 0; chunk < plan_.encoded.num_chunks; ++chunk) {
      SetX(chunk);
      for (int64_t block = blocks.begin; block < blocks.end; ++block) {
        float* c = c_[block - blocks.begin];
        if (IsQuantized(plan_)) {
          encoded_.Quantized(block, chunk, rows_, Next(blocks, block, chunk, following), c);
        } else {
          encoded_.Widened(block, chunk, x_, rows_.size(), c);
        }
      }
    }
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
      Finish(block, c_[block - blocks.begin]);
    }
  }

 private:
  void SetX(int64_t chunk) {
    if (!IsQuantized(plan_)) return encoded_.LoadX(chunk, rows_, x_);
    encoded_.PointX(chunk, rows_);
  }

  Ahead Next(Range blocks, int64_t block, int64_t chunk, const char* following) const {
    const char* here = plan_.Block(block) + chunk * plan_.encoded.chunk.bytes;
    if (!run_.is_empty()) {
      const char* at = here + run_.ahead;
      const int64_t left = run_.end - at;
      if (left <= 0) return {.at = following - left};
      return {.at = at, .bytes = left, .then = following};
    }
    if (chunk + 1 < plan_.encoded.num_chunks) return {.at = here + plan_.encoded.chunk.bytes};
    return {.at = following + (block - blocks.begin) * plan_.w_stride()};
  }

  void Finish(int64_t block, const float* c) const {
    plan_.kernels->epilogue({.c = c,
                             .c_stride = kBlockRows,
                             .rows = rows_.size(),
                             .blocks = 1,
                             .product = plan_.product,
                             .first_row = rows_.begin,
                             .first_block = block});
  }

  const Plan& plan_;
  const Range rows_;
  const StreamRun run_;  // empty: the rows are many
  EncodedRun encoded_;
  alignas(64) float c_[kQuantizedPanel.blocks][kQuantizedPanel.rows * kBlockRows];
  alignas(64) float x_[kWidenedPanel.rows * kMaxChunkColumns];
};

}  // namespace

void PrepareEncoded(Plan* plan) {
  const PackedCore& core = plan->product->weights;
  EncodedPlan& encoded = plan->encoded;
  RK_CHECK(core.k > 0);
  RK_CHECK((IsQuantized(*plan) ? reinterpret_cast<void*>(encoded.kernels.tile)
                               : reinterpret_cast<void*>(encoded.kernels.widen)) != nullptr);
  encoded.num_chunks = NumChunks(core.k);
  encoded.chunk = LayoutOfChunk(core.encoding, kChunkColumns);
  while (kStepColumns << encoded.group_shift < encoded.chunk.group) ++encoded.group_shift;
  encoded.last_chunk = LayoutOfChunk(core.encoding, ColumnsOfChunk(core.k, encoded.num_chunks - 1));
}

void ReadScales(const Plan& plan, const ChunkLayout& layout, const char* chunk, float* scales) {
  ReadHeader(layout, layout.scales, chunk, scales);
  if (plan.product->weights.encoding.kind != EncodingKind::kE8P) return;
  // Its codes count quarters.
  for (int64_t i = 0; i < kBlockRows; ++i) scales[i] *= 0.25f;
}

void StreamEncoded(const Plan& plan, Range blocks, const char* next) {
  const Range rows{0, plan.num_rows};
  // Float activations are converted for each block that reads them alone.
  if (plan.num_rows <= (IsQuantized(plan) ? kMaxStreamRows : 1)) {
    BlockGroup group(plan, rows, StreamRun(plan, blocks));
    for (int64_t b = blocks.begin; b < blocks.end; ++b) group.Run({b, b + 1}, next);
    return;
  }
  BlockGroup group(plan, rows);
  for (int64_t begin = blocks.begin; begin < blocks.end; begin += kSharedBlocks) {
    const int64_t end = std::min(blocks.end, begin + kSharedBlocks);
    group.Run({begin, end}, end < blocks.end ? plan.Block(end) : next);
  }
}

void RunEncodedPanel(const Plan& plan, Range rows, Range blocks) {
  BlockGroup(plan, rows).Run(blocks, plan.Block(blocks.end));
}

}  // namespace rankine
