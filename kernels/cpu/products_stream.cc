// Few tokens: bound by memory. Blocks are read one after the other in the order they lie in memory,
// because one sequential stream per thread is what hardware prefetchers follow best: measured 35
// GB/s a thread on a Zen 4, against 27 when four blocks of 18 kB are read side by side. Processors
// that read several streams faster prefetch them as several (prefetch.h).
#include <algorithm>

#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/products_plan.h"

namespace rankine {
namespace {

// Blocks whose chains are kept before their epilogue: 32 rows x 16 blocks x 64 bytes = 32 kB of
// stack.
constexpr int64_t kMaxBlocks = 16;
// Columns of x copied at once: 32 rows x 1024 x 4 bytes = 128 kB of stack. One row is copied whole
// if it fits, so that weights are read in the order in which they lie.
constexpr int64_t kSlabColumns = 1024, kSlabColumnsOfOneRow = kMaxTileRows * kSlabColumns;
constexpr int64_t kMaxSlabStride = kSlabColumns * sizeof(float) + 64;

// x as the tiles want it, from memory as it is.
void StreamDirect(const Plan& plan, int64_t blocks, TileArgs args) {
  args.x = static_cast<const char*>(plan.product->x.data);
  args.x_stride = plan.x_stride();
  args.steps = plan.steps();
  args.first = true;
  SweepBlocks(plan.kernels->stream, static_cast<int>(plan.num_rows), blocks, args);
}

// x copied, converted if need be, slab by slab; the chains wait in args.c between slabs.
void StreamCopied(const Plan& plan, int64_t blocks, TileArgs args) {
  const ProductKernels& kernels = *plan.kernels;
  const int rows = static_cast<int>(plan.num_rows);
  alignas(64) char x[kMaxTileRows * kMaxSlabStride];
  args.x = x;
  const int64_t max_slab = rows == 1 ? kSlabColumnsOfOneRow : kSlabColumns;
  args.x_stride = max_slab * kernels.x_column_bytes + 64;  // so that rows do not collide
  const char* after = args.next;
  int64_t column = 0;
  do {
    const int64_t slab = std::min(max_slab, plan.columns() - column);
    for (int r = 0; slab > 0 && r < rows; ++r) {
      kernels.load_x(plan.product->x, r, column, slab, x + r * args.x_stride);
    }
    args.steps = slab / plan.columns_per_step();
    args.first = column == 0;
    column += slab;
    args.next = column < plan.columns() ? args.w + args.steps * kStepBytes : after;
    SweepBlocks(kernels.stream, rows, blocks, args);
    args.w += args.steps * kStepBytes;
  } while (column < plan.columns());
}

}  // namespace

int64_t MaxStreamRows(const Plan& plan) {
  if (RunsUnpacked(plan)) return 0;
  return plan.is_encoded() ? kMaxEncodedStreamRows : plan.kernels->max_rows;
}

void StreamBlocks(const Plan& plan, Range blocks, const char* next) {
  if (plan.is_encoded()) return StreamEncoded(plan, blocks, next);
  alignas(64) float c[kMaxTileRows * kMaxBlocks * kBlockRows];
  const bool direct =
      plan.kernels->x_in_compute_form && !RowsCollide(plan.num_rows, plan.x_stride());
  const bool pages_in_turn = PrefetchesPagesInTurn(blocks.size() * plan.w_stride());
  for (int64_t begin = blocks.begin; begin < blocks.end; begin += kMaxBlocks) {
    const int64_t count = std::min(kMaxBlocks, blocks.end - begin);
    const int64_t c_stride = count * kBlockRows;
    const TileArgs args{.w = plan.Block(begin),
                        .w_stride = plan.w_stride(),
                        .c = c,
                        .c_stride = c_stride,
                        .next = begin + count < blocks.end ? plan.Block(begin + count) : next,
                        .pages_in_turn = pages_in_turn};
    if (direct) {
      StreamDirect(plan, count, args);
    } else {
      StreamCopied(plan, count, args);
    }
    plan.kernels->epilogue({.c = c,
                            .c_stride = c_stride,
                            .rows = plan.num_rows,
                            .blocks = count,
                            .product = plan.product,
                            .first_row = 0,
                            .first_block = begin});
  }
  if (plan.kernels->finish != nullptr) plan.kernels->finish();
}

void SweepBlocks(const TileSet& tiles, int rows, int64_t blocks, TileArgs args) {
  const int64_t wide = tiles.blocks[rows];
  const char* after = args.next;
  args.rows = rows;
  while (blocks > 0) {
    const int64_t now = blocks >= wide ? wide : 1;
    blocks -= now;
    args.next = blocks > 0 ? args.w + now * args.w_stride : after;
    (now == wide ? tiles.wide : tiles.single)[rows](args);
    args.w += now * args.w_stride;
    args.c += now * kBlockRows;
  }
}

}  // namespace rankine
