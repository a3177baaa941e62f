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

struct Plan {
  const Product* product = nullptr;
  const ProductKernels* kernels = nullptr;
  int64_t num_tokens = 0;
  int64_t panel_blocks = 0;  // of a panel task

  int64_t blocks() const { return product->weights.num_blocks(); }
  int64_t columns_per_step() const { return product->weights.dtype == DType::kF32 ? 1 : 2; }
  int64_t steps() const { return CeilDiv(product->weights.k, columns_per_step()); }
  // Columns as stored: the summed index, even for 16-bit weights.
  int64_t columns() const { return steps() * columns_per_step(); }
  int64_t bytes() const { return blocks() * steps() * kStepBytes; }
  int64_t w_stride() const { return product->weights.block_stride; }
  // Bytes between rows of x as stored, where that is the tiles' form.
  int64_t x_stride() const { return product->x.stride * kernels->x_column_bytes; }
  const char* Block(int64_t block) const {
    return static_cast<const char*>(product->weights.data) + block * w_stride();
  }
};

// Rows a multiple of 2048 bytes apart fall into two sets of a 32 kB, 8-way L1, where more than
// eight evict each other.
inline bool RowsCollide(int64_t rows, int64_t stride_bytes) {
  return rows > 8 && stride_bytes % 2048 == 0;
}

// Few tokens: at most kernels->max_rows. Streams the blocks once; `next` is what this thread
// probably reads after them.
void StreamBlocks(const Plan& plan, Range blocks, const char* next);

// Any number of tokens, cut into tasks [0, NumPanelTasks): a panel of tokens x panel_blocks blocks.
int64_t NumPanelTasks(const Plan& plan);
void RunPanelTask(const Plan& plan, int64_t index);
// The largest group of blocks that still gives every thread several tasks.
int64_t ChoosePanelBlocks(const Plan& plan, int num_threads);

// Runs tiles of `rows` rows over `blocks` blocks; args describes the first. args.next is what
// follows the last.
void SweepBlocks(const TileSet& tiles, int rows, int64_t blocks, TileArgs args);

}  // namespace rankine
