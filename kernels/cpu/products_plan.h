// A product with its kernels, and the two ways to run a part of it. Internal to products_*.cc.
#pragma once

#include <cstdint>

#include "kernels/cpu/products_kernels.h"

namespace rankine {

struct Range {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

// Part `index` of [0, count) cut into `parts` that differ by one at most.
inline Range EvenPart(int64_t count, int64_t parts, int64_t index) {
  return {count * index / parts, count * (index + 1) / parts};
}

inline constexpr int64_t kStepBytes = 64;

// What a plan with block-encoded weights needs besides: its kernels, and the form of its chunks.
struct EncodedPlan {
  BlockKernels kernels;
  ChunkLayout chunk, last_chunk;
  int64_t num_chunks = 0;
  int group_shift = 0;  // log2 of the steps that a group spans

  const ChunkLayout& Layout(int64_t index) const {
    return index + 1 < num_chunks ? chunk : last_chunk;
  }
};

struct Plan {
  const Product* product = nullptr;
  // Of the weights; with block-encoded ones, those of f32 weights, as which they run when widened.
  const ProductKernels* kernels = nullptr;
  EncodedPlan encoded;
  int64_t num_rows = 0;      // of x
  int64_t panel_blocks = 0;  // of a panel task

  bool is_encoded() const { return product->weights.dtype == DType::kU8; }
  int64_t blocks() const { return product->weights.num_blocks(); }
  int64_t columns_per_step() const { return product->weights.dtype == DType::kF32 ? 1 : 2; }
  int64_t steps() const { return CeilDiv(product->weights.k, columns_per_step()); }
  // Columns as stored: the summed index, even for 16-bit weights.
  int64_t columns() const { return steps() * columns_per_step(); }
  int64_t bytes() const { return blocks() * (is_encoded() ? w_stride() : steps() * kStepBytes); }
  int64_t w_stride() const { return product->weights.block_stride; }
  // Bytes between rows of x as stored, where that is the tiles' form.
  int64_t x_stride() const { return product->x.stride * kernels->x_column_bytes; }
  const char* Block(int64_t block) const {
    return static_cast<const char*>(product->weights.data) + block * w_stride();
  }
};

inline bool RowsCollide(int64_t rows, int64_t stride_bytes) {
  return rows > 8 && stride_bytes % kCollidingBytes == 0;
}

// Most rows that StreamBlocks takes.
int64_t MaxStreamRows(const Plan& plan);
// Few rows: at most MaxStreamRows. Streams the blocks once; `next` is what this thread
// probably reads after them.
void StreamBlocks(const Plan& plan, Range blocks, const char* next);

// Any number of rows, cut into tasks [0, NumPanelTasks): a panel of rows x panel_blocks blocks.
int64_t NumPanelTasks(const Plan& plan);
void RunPanelTask(const Plan& plan, int64_t index);
// The largest group of blocks that still gives every thread several tasks.
int64_t ChoosePanelBlocks(const Plan& plan, int num_threads);

// The same for block-encoded weights.
void PrepareEncoded(Plan* plan);
void StreamEncoded(const Plan& plan, Range blocks, const char* next);
void RunEncodedPanel(const Plan& plan, Range rows, Range blocks);
// Scales of a chunk at `chunk`, expanded to f32 [groups][16].
void ReadScales(const Plan& plan, const ChunkLayout& layout, const char* chunk, float* scales);

// Many quantised rows where the instruction set has tiles of unpacked codes for them.
bool RunsUnpacked(const Plan& plan);
void RunUnpackedPanel(const Plan& plan, Range rows, Range blocks);
// In L2: unpacked codes and scales 480 kB, chains 512, records 215.
inline constexpr PanelShape kUnpackedPanel{.rows = 256, .blocks = 32};
inline constexpr int64_t kMaxEncodedStreamRows = 24;
// Codes are unpacked and headers read once for a panel's rows, whose records and chains are in L2
// meanwhile (256 rows: 340 kB). With 256 rows of records, not 128, 512 rows run 1.06 x as fast on
// Zen 5; rows in f32 are five times as large.
inline constexpr PanelShape kQuantizedPanel{.rows = 256, .blocks = 8};
inline constexpr PanelShape kWidenedPanel{.rows = 128, .blocks = 8};
inline bool IsQuantized(const Plan& plan) { return plan.product->x.dtype == DType::kI8; }

// Runs tiles of `rows` rows over `blocks` blocks; args describes the first. args.next is what
// follows the last.
void SweepBlocks(const TileSet& tiles, int rows, int64_t blocks, TileArgs args);

}  // namespace rankine
