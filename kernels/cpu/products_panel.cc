// Many tokens: bound by arithmetic. A task is a panel of tokens x a group of blocks, cut along k
// into slabs so that a slab of x and that of a pair of blocks stay in L2; the chains wait in
// an f32 panel between slabs (Goto & van de Geijn, ACM TOMS 34(3), 2008, where the packing of W has
// been done once, at load time).
#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/cpu/products_plan.h"

namespace rankine {
namespace {

// The chains of 192 x 8 blocks take 96 kB.
constexpr int64_t kPanelRows = 192;
// Most bytes of one row of a slab of x in the tiles' form: a slab of x is then 288 kB and a pair of
// blocks 48 kB, both in L2. Speed is flat from 1 to 2 kB; this runs k = 576 (bf16) in one slab.
constexpr int64_t kSlabRowBytes = 1536;
// Rows of a copied slab lie a cache line further apart than a power of two, so that they fall into
// different sets.
constexpr int64_t kSlabRowStride = kSlabRowBytes + 64;
// Up to so many tiles widen 16-bit weights in registers, each for itself: two shifts beside 12
// multiply-adds cost less than a panel written and read again. (With 2 tiles a panel ran at 60% of
// the peak, tiles alone at 93%.)
constexpr int64_t kFewTiles = 4;
constexpr int64_t kMaxTileBlocks = 2;
constexpr int64_t kPanelStride = kMaxPanelBlocks * kBlockRows;
// Threads take tasks in turn; with this many each, the last one delays the barrier by an eighth at
// most.
constexpr int64_t kTasksPerThread = 4;

int64_t NumPanels(const Plan& plan) {
  return CeilDiv(plan.num_rows, plan.is_encoded() ? kEncodedPanelRows : kPanelRows);
}
int64_t NumGroups(const Plan& plan) { return CeilDiv(plan.blocks(), plan.panel_blocks); }

bool CopiesX(const Plan& plan) {
  return !plan.kernels->x_in_compute_form || RowsCollide(plan.kernels->max_rows, plan.x_stride());
}

class PanelTask {
 public:
  PanelTask(const Plan& plan, Range rows, Range blocks)
      : plan_(plan),
        kernels_(*plan.kernels),
        rows_(rows),
        blocks_(blocks),
        num_tiles_(CeilDiv(rows.size(), kernels_.max_rows)),
        widens_(kernels_.widen_weights != nullptr && num_tiles_ > kFewTiles) {
    RK_CHECK(kernels_.panel.blocks[kernels_.max_rows] <= kMaxTileBlocks);
  }

  void Run() {
    const int64_t max_steps = kSlabRowBytes / kernels_.x_column_bytes / plan_.columns_per_step();
    const int64_t num_slabs = std::max<int64_t>(1, CeilDiv(plan_.steps(), max_steps));
    for (int64_t slab = 0; slab < num_slabs; ++slab) {
      const Range steps = EvenPart(plan_.steps(), num_slabs, slab);
      SetX(steps.begin * plan_.columns_per_step(), steps.size() * plan_.columns_per_step());
      RunSlab(steps);
    }
    kernels_.epilogue({.c = c_,
                       .c_stride = kPanelStride,
                       .rows = rows_.size(),
                       .blocks = blocks_.size(),
                       .product = plan_.product,
                       .first_row = rows_.begin,
                       .first_block = blocks_.begin});
  }

 private:
  void SetX(int64_t column, int64_t columns) {
    const MatrixView& x = plan_.product->x;
    if (!CopiesX(plan_)) {
      x_stride_ = plan_.x_stride();
      x_ = static_cast<const char*>(x.data) + rows_.begin * x_stride_ +
           column * kernels_.x_column_bytes;
      return;
    }
    for (int64_t r = 0; columns > 0 && r < rows_.size(); ++r) {
      kernels_.load_x(x, rows_.begin + r, column, columns, x_copy_ + r * kSlabRowStride);
    }
    x_ = x_copy_;
    x_stride_ = kSlabRowStride;
  }

  void RunSlab(Range steps) {
    const int64_t wide = kernels_.panel.blocks[kernels_.max_rows];
    const int64_t offset = steps.begin * kStepBytes;
    TileArgs args{.x_stride = x_stride_, .c_stride = kPanelStride, .first = steps.begin == 0};
    for (int64_t block = 0; block < blocks_.size(); block += wide) {
      const int64_t now = std::min(wide, blocks_.size() - block);
      args.w = plan_.Block(blocks_.begin + block) + offset;
      args.w_stride = plan_.w_stride();
      args.steps = steps.size();
      args.next = block + now < blocks_.size()
                      ? args.w + now * args.w_stride
                      : plan_.Block(blocks_.begin) + offset + steps.size() * kStepBytes;
      if (widens_) Widen(now, args);
      RunTiles(block, now, args);
    }
  }

  // All rows of the panel with blocks [block, block + count), whose weights are in args.
  void RunTiles(int64_t block, int64_t count, TileArgs args) {
    for (int64_t tile = 0; tile < num_tiles_; ++tile) {
      const Range part = EvenPart(rows_.size(), num_tiles_, tile);
      args.x = x_ + part.begin * x_stride_;
      args.c = c_ + part.begin * kPanelStride + block * kBlockRows;
      // Streaming tiles take weights as stored; the first tile is one, for its prefetch.
      const bool stored = kernels_.widen_weights == nullptr ? tile == 0 : !widens_;
      SweepBlocks(stored ? kernels_.stream : kernels_.panel, static_cast<int>(part.size()), count,
                  args);
    }
  }

  // Turns the weights of args, `blocks` blocks, into f32 in w_.
  void Widen(int64_t blocks, TileArgs& args) {
    const int64_t steps = args.steps * plan_.columns_per_step();
    for (int64_t b = 0; b < blocks; ++b) {
      kernels_.widen_weights(args.w + b * args.w_stride, args.steps, w_ + b * steps * kStepBytes);
    }
    args.w = w_;
    args.w_stride = steps * kStepBytes;
    args.steps = steps;
  }

  const Plan& plan_;
  const ProductKernels& kernels_;
  const Range rows_, blocks_;
  const int64_t num_tiles_;
  const bool widens_;
  const char* x_ = nullptr;  // the slab's first row, in memory as it is or in x_copy_
  int64_t x_stride_ = 0;
  alignas(64) float c_[kPanelRows * kPanelStride];
  alignas(64) char x_copy_[kPanelRows * kSlabRowStride];
  alignas(64) char w_[kMaxTileBlocks * kSlabRowBytes / sizeof(float) * kStepBytes];
};

}  // namespace

int64_t ChoosePanelBlocks(const Plan& plan, int num_threads) {
  const int64_t wide = plan.is_encoded() ? 1 : plan.kernels->panel.blocks[plan.kernels->max_rows];
  const int64_t wanted_groups = CeilDiv(kTasksPerThread * num_threads, NumPanels(plan));
  const int64_t blocks = plan.blocks() / wanted_groups / wide * wide;
  return std::clamp<int64_t>(blocks, wide, kMaxPanelBlocks);
}

int64_t NumPanelTasks(const Plan& plan) { return NumPanels(plan) * NumGroups(plan); }

void RunPanelTask(const Plan& plan, int64_t index) {
  const int64_t groups = NumGroups(plan);
  const int64_t first = index % groups * plan.panel_blocks;
  const Range rows = EvenPart(plan.num_rows, NumPanels(plan), index / groups);
  const Range blocks{first, std::min(plan.blocks(), first + plan.panel_blocks)};
  if (plan.is_encoded()) return RunEncodedPanel(plan, rows, blocks);
  PanelTask(plan, rows, blocks).Run();
}

}  // namespace rankine
