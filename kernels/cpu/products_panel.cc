// Many tokens: bound by arithmetic. A task is a panel of tokens x a group of blocks, cut along k
// into slabs so that a slab of x and that of a pair of blocks stay in L2; the chains wait in
// an f32 panel between slabs (Goto & van de Geijn, ACM TOMS 34(3), 2008, where the packing of W has
// been done once, at load time).
#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/cpu/huge_buffer.h"
#include "kernels/cpu/products_plan.h"

namespace rankine {
namespace {

// Up to so many tiles widen 16-bit weights in registers, each for itself: two shifts beside 12
// multiply-adds cost less than a panel written and read again. (With 2 tiles a panel ran at 60% of
// the peak, tiles alone at 93%.)
constexpr int64_t kFewTiles = 4;
constexpr int64_t kMaxTileBlocks = kMaxSweepBlocks;
// Rows of a copied slab lie a cache line further apart than a power of two, so that they fall into
// different sets.
constexpr int64_t SlabStride(const PanelShape& shape) { return shape.slab_row_bytes + 64; }
// The chains of a row of blocks lie side by side, of a sweep those of all rows of a block: whole
// pages rather than a piece of many.
constexpr int64_t kChainsStride = kPanelOfVectors.blocks * kBlockRows;
constexpr int64_t kMaxChains =
    std::max(kPanelOfVectors.rows * kPanelOfVectors.blocks, kPanelOfAmx.rows* kPanelOfAmx.blocks) *
    kBlockRows;
constexpr int64_t kMaxSlabBytes = std::max(kPanelOfVectors.rows * SlabStride(kPanelOfVectors),
                                           kPanelOfAmx.rows* SlabStride(kPanelOfAmx));
constexpr int64_t kMaxSlabColumns = kPanelOfVectors.slab_row_bytes / sizeof(float);
// Threads take tasks in turn; with this many each, the last one delays the barrier by an eighth at
// most.
constexpr int64_t kTasksPerThread = 4;

// Rows of a panel, and its blocks at most.
PanelShape ShapeOf(const Plan& plan) {
  if (RunsUnpacked(plan)) return kUnpackedPanel;
  if (plan.is_encoded()) return IsQuantized(plan) ? kQuantizedPanel : kWidenedPanel;
  return plan.kernels->panel_shape;
}
int64_t NumPanels(const Plan& plan) { return CeilDiv(plan.num_rows, ShapeOf(plan).rows); }
int64_t NumGroups(const Plan& plan) { return CeilDiv(plan.blocks(), plan.panel_blocks); }

int64_t WidePanel(const ProductKernels& kernels) {
  return kernels.sweep != nullptr ? kMaxSweepBlocks : kernels.panel.blocks[kernels.max_rows];
}

bool CopiesX(const Plan& plan) {
  return !plan.kernels->x_in_compute_form || RowsCollide(plan.kernels->max_rows, plan.x_stride());
}

// What a panel works on, one for each thread, in huge pages: a tile of chains touches a page a row
// otherwise.
struct PanelScratch {
  alignas(64) float c[kMaxChains];
  alignas(64) char x[kMaxSlabBytes];
  alignas(64) char w[kMaxTileBlocks * kMaxSlabColumns * kStepBytes];
};

PanelScratch& Scratch() {
  thread_local const HugeBuffer buffer(sizeof(PanelScratch));
  return *reinterpret_cast<PanelScratch*>(buffer.data());
}

class PanelTask {
 public:
  PanelTask(const Plan& plan, Range rows, Range blocks)
      : plan_(plan),
        kernels_(*plan.kernels),
        shape_(kernels_.panel_shape),
        rows_(rows),
        blocks_(blocks),
        c_stride_(kernels_.sweep != nullptr ? kBlockRows : kChainsStride),
        c_block_stride_(kernels_.sweep != nullptr ? rows.size() * kBlockRows : kBlockRows),
        num_tiles_(CeilDiv(rows.size(), kernels_.max_rows)),
        widens_(kernels_.widen_weights != nullptr && num_tiles_ > kFewTiles) {
    RK_CHECK(WidePanel(kernels_) <= kMaxTileBlocks);
  }

  void Run() {
    const int64_t unit = shape_.step_unit, num_units = CeilDiv(plan_.steps(), unit);
    const int64_t max_units =
        shape_.slab_row_bytes / kernels_.x_column_bytes / plan_.columns_per_step() / unit;
    const int64_t num_slabs = std::max<int64_t>(1, CeilDiv(num_units, max_units));
    for (int64_t slab = 0; slab < num_slabs; ++slab) {
      const Range units = EvenPart(num_units, num_slabs, slab);
      const Range steps{units.begin * unit, std::min(plan_.steps(), units.end * unit)};
      SetX(steps.begin * plan_.columns_per_step(), steps.size() * plan_.columns_per_step());
      RunSlab(steps);
    }
    if (kernels_.finish != nullptr) kernels_.finish();
    kernels_.epilogue({.c = scratch_.c,
                       .c_stride = c_stride_,
                       .c_block_stride = c_block_stride_,
                       .rows = rows_.size(),
                       .blocks = blocks_.size(),
                       .product = plan_.product,
                       .first_row = rows_.begin,
                       .first_block = blocks_.begin});
  }

 private:
  void SetX(int64_t column, int64_t columns) {
    const MatrixView& x = plan_.product->x;
    if (kernels_.sweep != nullptr) {
      kernels_.pack_x(x, rows_.begin, rows_.size(), column, columns, scratch_.x);
      x_ = scratch_.x;
      return;
    }
    if (!CopiesX(plan_)) {
      x_stride_ = plan_.x_stride();
      x_ = static_cast<const char*>(x.data) + rows_.begin * x_stride_ +
           column * kernels_.x_column_bytes;
      return;
    }
    for (int64_t r = 0; columns > 0 && r < rows_.size(); ++r) {
      kernels_.load_x(x, rows_.begin + r, column, columns, scratch_.x + r * SlabStride(shape_));
    }
    x_ = scratch_.x;
    x_stride_ = SlabStride(shape_);
  }

  void RunSlab(Range steps) {
    const int64_t wide = WidePanel(kernels_);
    const int64_t offset = steps.begin * kStepBytes;
    TileArgs args{.x_stride = x_stride_,
                  .c_stride = c_stride_,
                  .c_block_stride = c_block_stride_,
                  .first = steps.begin == 0};
    for (int64_t block = 0; block < blocks_.size(); block += wide) {
      const int64_t now = std::min(wide, blocks_.size() - block);
      args.w = plan_.Block(blocks_.begin + block) + offset;
      args.w_stride = plan_.w_stride();
      args.steps = steps.size();
      args.next = block + now < blocks_.size()
                      ? args.w + now * args.w_stride
                      : plan_.Block(blocks_.begin) + offset + steps.size() * kStepBytes;
      if (kernels_.sweep != nullptr) {
        Sweep(block, now, args);
        continue;
      }
      if (widens_) Widen(now, args);
      RunTiles(block, now, args);
    }
  }

  void Sweep(int64_t block, int64_t count, TileArgs args) {
    args.x = x_;
    args.c = scratch_.c + block * c_block_stride_;
    args.rows = rows_.size();
    args.blocks = count;
    kernels_.sweep(args);
  }

  // All rows of the panel with blocks [block, block + count), whose weights are in args.
  void RunTiles(int64_t block, int64_t count, TileArgs args) {
    for (int64_t tile = 0; tile < num_tiles_; ++tile) {
      const Range part = EvenPart(rows_.size(), num_tiles_, tile);
      args.x = x_ + part.begin * x_stride_;
      args.c = scratch_.c + part.begin * c_stride_ + block * kBlockRows;
      // Streaming tiles take weights as stored; the first tile is one, for its prefetch.
      const bool stored = kernels_.widen_weights == nullptr ? tile == 0 : !widens_;
      SweepBlocks(stored ? kernels_.stream : kernels_.panel, static_cast<int>(part.size()), count,
                  args);
    }
  }

  // Turns the weights of args, `blocks` blocks, into f32 in scratch.
  void Widen(int64_t blocks, TileArgs& args) {
    const int64_t steps = args.steps * plan_.columns_per_step();
    for (int64_t b = 0; b < blocks; ++b) {
      kernels_.widen_weights(args.w + b * args.w_stride, args.steps,
                             scratch_.w + b * steps * kStepBytes);
    }
    args.w = scratch_.w;
    args.w_stride = steps * kStepBytes;
    args.steps = steps;
  }

  const Plan& plan_;
  const ProductKernels& kernels_;
  const PanelShape& shape_;
  const Range rows_, blocks_;
  const int64_t c_stride_, c_block_stride_;
  const int64_t num_tiles_;
  const bool widens_;
  const char* x_ = nullptr;  // the slab's first row, in memory as it is or in scratch
  int64_t x_stride_ = 0;
  PanelScratch& scratch_ = Scratch();
};

}  // namespace

int64_t ChoosePanelBlocks(const Plan& plan, int num_threads) {
  const int64_t wide = plan.is_encoded() ? 1 : WidePanel(*plan.kernels);
  const int64_t wanted_groups = CeilDiv(kTasksPerThread * num_threads, NumPanels(plan));
  const int64_t blocks = plan.blocks() / wanted_groups / wide * wide;
  return std::clamp<int64_t>(blocks, wide, ShapeOf(plan).blocks);
}

int64_t NumPanelTasks(const Plan& plan) { return NumPanels(plan) * NumGroups(plan); }

void RunPanelTask(const Plan& plan, int64_t index) {
  const int64_t groups = NumGroups(plan);
  const int64_t first = index % groups * plan.panel_blocks;
  const Range rows = EvenPart(plan.num_rows, NumPanels(plan), index / groups);
  const Range blocks{first, std::min(plan.blocks(), first + plan.panel_blocks)};
  if (RunsUnpacked(plan)) return RunUnpackedPanel(plan, rows, blocks);
  if (plan.is_encoded()) return RunEncodedPanel(plan, rows, blocks);
  PanelTask(plan, rows, blocks).Run();
}

}  // namespace rankine
