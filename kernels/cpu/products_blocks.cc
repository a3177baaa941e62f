// Products with block-encoded weights. A chunk (512 columns of 16 outputs) is the unit: its header
// is expanded to f32 on the stack, then its codes meet the activations, as int8 dot products or
// widened to f32. The same chunks in the same order serve few rows and many.
#include <algorithm>

#include "kernels/api/quantized_rows.h"
#include "kernels/base/check.h"
#include "kernels/cpu/products_plan.h"

namespace rankine {
namespace {

constexpr int64_t kMaxGroups = kChunkColumns / 16;

class EncodedRun {
 public:
  explicit EncodedRun(const Plan& plan) : plan_(plan) {
    const Encoding& encoding = plan.product->weights.encoding;
    tile_ = {.x_stride = plan.product->x.stride};
    while (kStepColumns << tile_.group_shift < plan.encoded.chunk.group) ++tile_.group_shift;
    while (1 << tile_.zero_bits < encoding.ZeroCode()) ++tile_.zero_bits;
  }

  const ChunkLayout& Layout(int64_t chunk) const {
    return chunk + 1 < plan_.encoded.num_chunks ? plan_.encoded.chunk : plan_.encoded.last_chunk;
  }

  // Chains of rows [first_row, + rows) with one chunk of one block.
  void Quantized(int64_t block, int64_t chunk, int64_t first_row, int64_t rows, float* c) {
    const ChunkLayout& layout = ReadHeaders(block, chunk);
    tile_.x =
        static_cast<const char*>(plan_.product->x.data) + first_row * tile_.x_stride +
        chunk * kChunkColumns / kRecordColumns * static_cast<int64_t>(sizeof(QuantizedRecord));
    tile_.c = c;
    tile_.rows = rows;
    tile_.steps = layout.columns / kStepColumns;
    tile_.first = chunk == 0;
    plan_.encoded.kernels.tile(tile_);
  }

  // The same with float activations, in `x` [rows][kChunkColumns] as f32.
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
           .x = reinterpret_cast<const char*>(x + row * kChunkColumns),
           .x_stride = kChunkColumns * sizeof(float),
           .c = c + row * kBlockRows,
           .c_stride = kBlockRows,
           .steps = layout.columns,
           .first = chunk == 0,
           .next = reinterpret_cast<const char*>(weights_)});
    }
  }

  // Columns of a chunk of rows [first_row, + rows) as f32, zero beyond the last column.
  void LoadX(int64_t chunk, int64_t first_row, int64_t rows, float* x) const {
    const int64_t first = chunk * kChunkColumns;
    const int64_t count = std::min(kChunkColumns, plan_.product->weights.k - first);
    for (int64_t r = 0; r < rows; ++r) {
      float* row = x + r * kChunkColumns;
      plan_.kernels->load_x(plan_.product->x, first_row + r, first, count,
                            reinterpret_cast<char*>(row));
      std::fill(row + count, row + Layout(chunk).columns, 0.0f);
    }
  }

 private:
  const ChunkLayout& ReadHeaders(int64_t block, int64_t chunk) {
    const ChunkLayout& layout = Layout(chunk);
    const char* data = plan_.Block(block) + chunk * plan_.encoded.chunk.bytes;
    ReadHeader(layout, layout.scales, data, scales_);
    if (plan_.product->weights.encoding.kind == EncodingKind::kE8P) Quarter(scales_);
    if (layout.offsets.present) ReadHeader(layout, layout.offsets, data, offsets_);
    tile_.codes = reinterpret_cast<const uint8_t*>(data + layout.codes_offset);
    tile_.scales = scales_;
    tile_.offsets = layout.offsets.present ? offsets_ : nullptr;
    return layout;
  }

  // Codes of E8P count quarters.
  static void Quarter(float* scales) {
    for (int64_t i = 0; i < kBlockRows; ++i) scales[i] *= 0.25f;
  }

  const Plan& plan_;
  BlockTileArgs tile_;
  alignas(64) float scales_[kMaxGroups * kBlockRows];
  alignas(64) float offsets_[kMaxGroups * kBlockRows];
  alignas(64) float weights_[kChunkColumns * kBlockRows];
};

void Finish(const Plan& plan, const float* c, int64_t first_row, int64_t rows, int64_t block) {
  plan.kernels->epilogue({.c = c,
                          .c_stride = kBlockRows,
                          .rows = rows,
                          .blocks = 1,
                          .product = plan.product,
                          .first_row = first_row,
                          .first_block = block});
}

bool IsQuantized(const Plan& plan) { return plan.product->x.dtype == DType::kI8; }

}  // namespace

void PrepareEncoded(Plan* plan) {
  const PackedCore& core = plan->product->weights;
  EncodedPlan& encoded = plan->encoded;
  RK_CHECK(core.k > 0);
  RK_CHECK((IsQuantized(*plan) ? reinterpret_cast<void*>(encoded.kernels.tile)
                               : reinterpret_cast<void*>(encoded.kernels.widen)) != nullptr);
  encoded.num_chunks = CeilDiv(core.k, kChunkColumns);
  encoded.chunk = LayoutOfChunk(core.encoding, kChunkColumns);
  encoded.last_chunk = LayoutOfChunk(core.encoding, ColumnsOfChunk(core.k, encoded.num_chunks - 1));
}

void StreamEncoded(const Plan& plan, Range blocks) {
  alignas(64) float c[kMaxEncodedStreamRows * kBlockRows];
  alignas(64) float x[kMaxEncodedStreamRows * kChunkColumns];
  EncodedRun run(plan);
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    for (int64_t chunk = 0; chunk < plan.encoded.num_chunks; ++chunk) {
      if (IsQuantized(plan)) {
        run.Quantized(block, chunk, 0, plan.num_rows, c);
      } else {
        run.LoadX(chunk, 0, plan.num_rows, x);
        run.Widened(block, chunk, x, plan.num_rows, c);
      }
    }
    Finish(plan, c, 0, plan.num_rows, block);
  }
}

void RunEncodedPanel(const Plan& plan, Range rows, Range blocks) {
  alignas(64) float c[kMaxPanelBlocks][kEncodedPanelRows * kBlockRows];
  alignas(64) float x[kEncodedPanelRows * kChunkColumns];
  EncodedRun run(plan);
  for (int64_t chunk = 0; chunk < plan.encoded.num_chunks; ++chunk) {
    if (!IsQuantized(plan)) run.LoadX(chunk, rows.begin, rows.size(), x);
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
      float* chains = c[block - blocks.begin];
      if (IsQuantized(plan)) {
        run.Quantized(block, chunk, rows.begin, rows.size(), chains);
      } else {
        run.Widened(block, chunk, x, rows.size(), chains);
      }
    }
  }
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    Finish(plan, c[block - blocks.begin], rows.begin, rows.size(), block);
  }
}

}  // namespace rankine
