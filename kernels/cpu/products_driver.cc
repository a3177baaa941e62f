// Cuts products into tasks and runs the tiles of an instruction set over them.
//
// Few tokens (at most a tile's rows) are bound by memory: a task is a run of blocks of about 32 kB
// that one thread streams once. More tokens are bound by arithmetic: a task is a panel of tokens x
// a group of blocks, cut along k into slabs so that a slab of x stays in L2 and a slab of a pair of
// blocks in L1; the chains wait in an f32 panel between slabs (Goto & van de Geijn, ACM TOMS 34(3),
// 2008, with the packing of B done once, at load time).
#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/cpu/products_kernels.h"
#include "kernels/cpu/thread_pool.h"

namespace rankine {
namespace {

constexpr int64_t kStepBytes = 64;

// ---- streaming ----
// Big enough that the fetch_add on the queue (some 50 ns when contended) is noise beside 1.5 us of
// streaming, small enough that the last chunk does not keep the barrier waiting for long.
constexpr int64_t kChunkBytes = 32 << 10;
constexpr int64_t kMaxChunkBlocks = 16;
// Columns of x converted at once: 12 rows x 1024 x 4 bytes = 48 kB of stack, half of it in L1.
constexpr int64_t kStreamSlabColumns = 1024;
// Below this a barrier (about 1 us) costs more than the other threads save.
constexpr int64_t kMinParallelBytes = 16 << 10;

// ---- panels ----
constexpr int64_t kPanelRows = 192;
constexpr int64_t kPanelBlocks = 8;
// Bytes of one row of a slab of x in compute form; a slab of x is then 192 kB, a fifth of L2.
constexpr int64_t kSlabRowBytes = 1024;
// Rows of the slab lie one cache line further apart than a power of two, so that they fall into
// different sets.
constexpr int64_t kSlabRowStride = kSlabRowBytes + 64;
constexpr int64_t kMaxTileBlocks = 4;

// A product with its kernels and its tasks.
struct Plan {
  const Product* product = nullptr;
  const ProductKernels* kernels = nullptr;
  int64_t num_tokens = 0;

  int64_t blocks() const { return product->weights.num_blocks(); }
  // Columns of weights per step.
  int64_t columns_per_step() const { return product->weights.dtype == DType::kF32 ? 1 : 2; }
  int64_t steps() const { return CeilDiv(product->weights.k, columns_per_step()); }
  const char* Block(int64_t block) const {
    return static_cast<const char*>(product->weights.data) + block * product->weights.block_stride;
  }
  bool streams() const { return num_tokens <= kernels->max_rows; }

  int64_t ChunkBlocks() const {
    const int64_t wide = kernels->stream.blocks[num_tokens];
    const int64_t wanted = kChunkBytes / std::max<int64_t>(1, steps() * kStepBytes);
    return std::clamp<int64_t>(RoundUp(wanted, wide), wide, kMaxChunkBlocks);
  }
  int64_t NumPanels() const { return CeilDiv(num_tokens, kPanelRows); }
  int64_t NumTasks() const {
    if (streams()) return CeilDiv(blocks(), ChunkBlocks());
    return NumPanels() * CeilDiv(blocks(), kPanelBlocks);
  }
};

// The rows of part `index` when `count` rows are cut into `parts` that differ by one row at most.
struct Range {
  int64_t begin, end;
};
Range EvenPart(int64_t count, int64_t parts, int64_t index) {
  return {count * index / parts, count * (index + 1) / parts};
}

void Finish(const Plan& plan, const float* c, int64_t c_stride, Range rows, Range blocks) {
  plan.kernels->epilogue({.c = c,
                          .c_stride = c_stride,
                          .rows = rows.end - rows.begin,
                          .blocks = blocks.end - blocks.begin,
                          .product = plan.product,
                          .first_row = rows.begin,
                          .first_block = blocks.begin});
}

// Runs tiles of `rows` rows over all of `blocks` blocks; args describes the first.
void SweepBlocks(const TileSet& tiles, int rows, int64_t blocks, TileArgs args) {
  const int64_t wide = tiles.blocks[rows];
  const int64_t group_bytes = wide * args.w_stride;
  while (blocks > 0) {
    const int64_t now = blocks >= wide ? wide : 1;
    blocks -= now;
    const char* after = args.next;
    if (blocks > 0) args.next = args.w + now * args.w_stride;
    (now == wide ? tiles.wide : tiles.single)[rows](args);
    args.next = after;
    args.w += now == wide ? group_bytes : args.w_stride;
    args.c += now * kBlockRows;
  }
}

// ---- streaming ----

// `next`: the weights that this thread will read after these.
void StreamChunk(const Plan& plan, Range blocks, const char* next) {
  const ProductKernels& kernels = *plan.kernels;
  const Product& product = *plan.product;
  const int rows = static_cast<int>(plan.num_tokens);
  alignas(64) float c[kMaxTileRows * kMaxChunkBlocks * kBlockRows];
  const int64_t c_stride = (blocks.end - blocks.begin) * kBlockRows;
  TileArgs args{.w = plan.Block(blocks.begin),
                .w_stride = product.weights.block_stride,
                .c = c,
                .c_stride = c_stride,
                .next = next};
  if (kernels.x_in_compute_form) {
    args.x = static_cast<const char*>(product.x.data);
    args.x_stride = product.x.stride * kernels.x_column_bytes;
    args.steps = plan.steps();
    args.first = true;
    SweepBlocks(kernels.stream, rows, blocks.end - blocks.begin, args);
  } else {
    alignas(64) char x[kMaxTileRows * kStreamSlabColumns * sizeof(float)];
    const int64_t columns = plan.steps() * plan.columns_per_step();
    args.x = x;
    args.x_stride = kStreamSlabColumns * kernels.x_column_bytes;
    int64_t column = 0;
    do {
      const int64_t slab = std::min(kStreamSlabColumns, columns - column);
      for (int r = 0; slab > 0 && r < rows; ++r) {
        kernels.load_x(product.x, r, column, slab, x + r * args.x_stride);
      }
      args.steps = slab / plan.columns_per_step();
      args.first = column == 0;
      args.next = args.w + args.steps * kStepBytes;
      SweepBlocks(kernels.stream, rows, blocks.end - blocks.begin, args);
      args.w += args.steps * kStepBytes;
      column += slab;
    } while (column < columns);
  }
  Finish(plan, c, c_stride, {0, rows}, blocks);
}

// ---- panels ----

struct Panel {
  Range rows;
  Range blocks;
  int64_t num_tiles;
  alignas(64) float c[kPanelRows * kPanelBlocks * kBlockRows];
  alignas(64) char x[kPanelRows * kSlabRowStride];
  alignas(64) char w[kMaxTileBlocks * kSlabRowBytes / 4 * kStepBytes];
};

// All tiles of the panel over one slab of k; its x is loaded. `w` is the first block at the slab's
// first step.
void PanelSlab(const Plan& plan, const char* w, int64_t stored_steps, bool first, Panel& panel) {
  const ProductKernels& kernels = *plan.kernels;
  const int64_t c_stride = kPanelBlocks * kBlockRows;
  const int64_t wide = kernels.panel.blocks[kernels.max_rows];
  const int64_t count = panel.blocks.end - panel.blocks.begin;
  const int64_t rows = panel.rows.end - panel.rows.begin;
  TileArgs args{.c_stride = c_stride, .steps = stored_steps, .first = first};
  args.x_stride = kSlabRowStride;
  if (kernels.widen_weights != nullptr) args.steps *= plan.columns_per_step();
  for (int64_t block = 0; block < count; block += wide) {
    const int64_t now = std::min(wide, count - block);
    args.w = w + block * plan.product->weights.block_stride;
    args.w_stride = plan.product->weights.block_stride;
    if (kernels.widen_weights != nullptr) {
      const int64_t wide_stride = args.steps * kStepBytes;
      for (int64_t b = 0; b < now; ++b) {
        kernels.widen_weights(args.w + b * args.w_stride, stored_steps, panel.w + b * wide_stride);
      }
      args.w = panel.w;
      args.w_stride = wide_stride;
    }
    for (int64_t tile = 0; tile < panel.num_tiles; ++tile) {
      const Range part = EvenPart(rows, panel.num_tiles, tile);
      args.x = panel.x + part.begin * kSlabRowStride;
      args.c = panel.c + part.begin * c_stride + block * kBlockRows;
      SweepBlocks(kernels.panel, static_cast<int>(part.end - part.begin), now, args);
    }
  }
}

void RunPanel(const Plan& plan, Range rows, Range blocks) {
  const ProductKernels& kernels = *plan.kernels;
  const int64_t num_rows = rows.end - rows.begin;
  Panel panel;
  panel.rows = rows;
  panel.blocks = blocks;
  panel.num_tiles = CeilDiv(num_rows, kernels.max_rows);
  const int64_t columns = plan.steps() * plan.columns_per_step();
  const int64_t slab_columns = kSlabRowBytes / kernels.x_column_bytes;
  const char* w = plan.Block(blocks.begin);
  int64_t column = 0;
  do {
    const int64_t slab = std::min(slab_columns, columns - column);
    for (int64_t r = 0; slab > 0 && r < num_rows; ++r) {
      kernels.load_x(plan.product->x, rows.begin + r, column, slab, panel.x + r * kSlabRowStride);
    }
    const int64_t steps = slab / plan.columns_per_step();
    PanelSlab(plan, w, steps, column == 0, panel);
    w += steps * kStepBytes;
    column += slab;
  } while (column < columns);
  Finish(plan, panel.c, kPanelBlocks * kBlockRows, rows, blocks);
}

// ---- tasks of all products of a call ----

// Products of one call whose plans fit on the stack; more are run in several regions.
constexpr int kMaxPlans = 32;

struct Task {
  const Plan* plan = nullptr;  // null: none
  int64_t index = 0;

  // Blocks of a streaming task.
  Range Chunk() const {
    const int64_t chunk = plan->ChunkBlocks();
    return {index * chunk, std::min(plan->blocks(), (index + 1) * chunk)};
  }
};

struct Tasks {
  Plan plans[kMaxPlans];
  int num_plans = 0;
  int64_t count = 0;

  Task At(int64_t index) const {
    for (int i = 0; i < num_plans; ++i) {
      const int64_t here = plans[i].NumTasks();
      if (index < here) return {&plans[i], index};
      index -= here;
    }
    return {};
  }
};

Task NextTask(const Tasks& tasks, WorkQueue& queue) {
  int64_t begin, end;
  return queue.Next(&begin, &end) ? tasks.At(begin) : Task{};
}

void RunTask(const Task& task, const char* next) {
  const Plan& plan = *task.plan;
  if (plan.streams()) {
    StreamChunk(plan, task.Chunk(), next);
    return;
  }
  const int64_t groups = CeilDiv(plan.blocks(), kPanelBlocks);
  RunPanel(plan, EvenPart(plan.num_tokens, plan.NumPanels(), task.index / groups),
           EvenPart(plan.blocks(), groups, task.index % groups));
}

// What to prefetch while `task` ends; after a thread's last chunk that chunk again, which costs
// nothing.
const char* WeightsToPrefetch(const Task& task, const Task& next) {
  const Task& from = next.plan != nullptr ? next : task;
  return from.plan->streams() ? from.plan->Block(from.Chunk().begin) : nullptr;
}

// A thread asks for its next task before it runs the present one, so that the tail of one chunk
// prefetches the head of the next.
void Work(const Tasks& tasks, WorkQueue& queue) {
  Task task = NextTask(tasks, queue);
  while (task.plan != nullptr) {
    const Task next = NextTask(tasks, queue);
    RunTask(task, WeightsToPrefetch(task, next));
    task = next;
  }
}

void CheckProduct(const Product& p, int64_t num_tokens) {
  RK_CHECK(p.x.cols >= p.weights.k && p.x.rows >= num_tokens && p.y.rows >= num_tokens);
  RK_CHECK(p.x.stride >= RoundUp(p.weights.k, 2) || num_tokens <= 1);
  RK_CHECK(p.y.cols >= p.weights.n);
  RK_CHECK(p.y.stride >= RoundUp(p.weights.n, kBlockRows) || num_tokens <= 1);
  RK_CHECK(p.y.dtype == DType::kF32 || (p.y.dtype == DType::kBF16 && !p.accumulate));
}

}  // namespace

void RunProducts(const ProductsArgs& args, Stream stream, FindKernelsFn find_kernels) {
  if (args.num_tokens == 0) return;
  for (int first = 0; first < args.num_products; first += kMaxPlans) {
    Tasks tasks;
    tasks.num_plans = std::min(kMaxPlans, args.num_products - first);
    int64_t bytes = 0;
    for (int i = 0; i < tasks.num_plans; ++i) {
      const Product& product = args.products[first + i];
      CheckProduct(product, args.num_tokens);
      const ProductKernels* kernels = find_kernels(product.weights.dtype, product.x.dtype);
      RK_CHECK(kernels != nullptr);
      tasks.plans[i] = {&product, kernels, args.num_tokens};
      tasks.count += tasks.plans[i].NumTasks();
      bytes += PackedBytes(product.weights.dtype, product.weights.n, product.weights.k);
    }
    WorkQueue queue(tasks.count, 1);
    auto work = [&](int) { Work(tasks, queue); };
    if (stream.pool == nullptr || tasks.count <= 1 || bytes * args.num_tokens < kMinParallelBytes) {
      work(0);
    } else {
      stream.pool->Run(work);
    }
  }
}

}  // namespace rankine
