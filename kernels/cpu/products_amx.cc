// Product tiles for bf16 weights and bf16 activations with AMX. Sixteen steps of a block, as
// packed, are one tile register of weights: 32 columns x 16 outputs; rows of x are another, as they
// lie or copied to whole tiles. The chain of an output adds 32 columns at a time, in the order of k
// (amx.h), so runs of steps are cut at multiples of sixteen. One row does the same in vectors
// (products_amx_rows.cc).
#include <algorithm>
#include <cstring>

#include "kernels/base/check.h"
#include "kernels/cpu/amx.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/products_amx.h"
#include "kernels/cpu/products_plan.h"

namespace rankine {
namespace {

constexpr int kRows = 2 * amx::kTileRows;
static_assert(kStepBytes == amx::kTileRowBytes);
constexpr int64_t kTileSteps = kAmxTileSteps;
static_assert(kTileSteps == amx::kTileRows);
// Bytes of weights prefetched ahead of one block's tiles. 4096 x 4096 with few rows takes 0.96 ms
// at 1 and 1.5 kB, 1.02 at 3, 1.15 at 4 to 16.
constexpr int64_t kTileAhead = 1536;

// Rows and steps that the thread's tile registers are shaped for; 0 = they are not in use.
thread_local int64_t shaped_rows = 0, shaped_steps = 0;

// Tile registers: sums of row tile i and block j are 2 i + j, x of row tile i is 4 + i, weights of
// block j are 6 + j. Shaping them for each tile took a tenth of the time.
void Shape(int64_t rows, int64_t steps) {
  if (shaped_rows == rows && shaped_steps == steps) return;
  shaped_rows = rows;
  shaped_steps = steps;
  amx::Config config;
  for (int i = 0; i < 2; ++i) {
    const int64_t here = std::clamp<int64_t>(rows - i * amx::kTileRows, 0, amx::kTileRows);
    if (here == 0) continue;
    config.Set(2 * i, here, amx::kTileRowBytes);
    config.Set(2 * i + 1, here, amx::kTileRowBytes);
    config.Set(4 + i, here, steps * 4);
  }
  config.Set(6, steps, amx::kTileRowBytes);
  config.Set(7, steps, amx::kTileRowBytes);
  amx::Configure(config);
}

void Finish() {
  shaped_rows = shaped_steps = 0;
  amx::Release();
}

// f(row tile, block) for all sums of kI row tiles x kJ blocks, as constants.
template <int kI, int kJ, class F>
__attribute__((always_inline)) inline void ForSums(F f) {
  f.template operator()<0, 0>();
  if constexpr (kJ > 1) f.template operator()<0, 1>();
  if constexpr (kI > 1) f.template operator()<1, 0>();
  if constexpr (kI > 1 && kJ > 1) f.template operator()<1, 1>();
}

// Few rows, `x_stride` bytes apart, with one block.
template <int kI>
__attribute__((always_inline)) inline void AddStreamedTile(const char* w, const char* x,
                                                           int64_t x_stride) {
  amx::Load<4>(x, x_stride);
  if constexpr (kI > 1) amx::Load<5>(x + amx::kTileRows * x_stride, x_stride);
  amx::Load<6>(w, kStepBytes);
  amx::AddProductBF16<0, 4, 6>();
  if constexpr (kI > 1) amx::AddProductBF16<2, 5, 6>();
}

template <int kRowTile, int kBlock>
__attribute__((always_inline)) inline float* PlaceOfSum(const TileArgs& args) {
  return args.c + kRowTile * amx::kTileRows * args.c_stride + kBlock * args.c_block_stride;
}

template <int kRowTile, int kBlock>
__attribute__((always_inline)) inline void LoadSum(const TileArgs& args) {
  if (args.first) {
    amx::Zero<2 * kRowTile + kBlock>();
  } else {
    amx::Load<2 * kRowTile + kBlock>(PlaceOfSum<kRowTile, kBlock>(args),
                                     args.c_stride * sizeof(float));
  }
}

template <int kRowTile, int kBlock>
__attribute__((always_inline)) inline void StoreSum(const TileArgs& args) {
  amx::Store<2 * kRowTile + kBlock>(PlaceOfSum<kRowTile, kBlock>(args),
                                    args.c_stride * sizeof(float));
}

// Row tiles of a panel with its blocks: weights come from L1 and x, whole tiles, past it.
template <int kI, int kJ>
__attribute__((always_inline)) inline void AddPanelTile(const char* w, int64_t w_stride,
                                                        const char* x, int64_t row_tile) {
  amx::Load<6>(w, kStepBytes);
  amx::LoadPastL1<4>(x, amx::kTileRowBytes);
  amx::AddProductBF16<0, 4, 6>();
  if constexpr (kI > 1) {
    amx::LoadPastL1<5>(x + row_tile, amx::kTileRowBytes);
    amx::AddProductBF16<2, 5, 6>();
  }
  if constexpr (kJ > 1) {
    amx::Load<7>(w + w_stride, kStepBytes);
    amx::AddProductBF16<1, 4, 7>();
    if constexpr (kI > 1) amx::AddProductBF16<3, 5, 7>();
  }
}

template <int kI, int kJ>
__attribute__((always_inline)) inline void LoadSums(const TileArgs& args) {
  ForSums<kI, kJ>([&]<int kRowTile, int kBlock>() { LoadSum<kRowTile, kBlock>(args); });
}

template <int kI, int kJ>
__attribute__((always_inline)) inline void StoreSums(const TileArgs& args) {
  ForSums<kI, kJ>([&]<int kRowTile, int kBlock>() { StoreSum<kRowTile, kBlock>(args); });
}

// The sums of `args` and those of the next row tiles change places, each as soon as it can.
template <int kI, int kJ>
__attribute__((always_inline)) inline void SwapSums(const TileArgs& args) {
  TileArgs next = args;
  next.c += kRows * args.c_stride;
  ForSums<kI, kJ>([&]<int kRowTile, int kBlock>() {
    StoreSum<kRowTile, kBlock>(args);
    LoadSum<kRowTile, kBlock>(next);
  });
}

void PrefetchChains(const float* chains, int64_t lines) {
  for (int64_t i = 0; i < lines; ++i) __builtin_prefetch(chains + i * kBlockRows, 0, 3);
}

// Few rows with one block, whose steps are prefetched far ahead.
template <int kI>
void StreamTiles(const TileArgs& args, int64_t tile_steps) {
  Shape(args.rows, tile_steps);
  LoadSums<kI, 1>(args);
  const int64_t ahead = args.pages_in_turn ? kPrefetchWindow : kTileAhead;
  const char* w = args.w;
  const char* x = args.x;
  for (int64_t step = 0; step < args.steps; step += tile_steps) {
    PrefetchLines<2>(Ahead(args, step, ahead), kTileSteps, args.pages_in_turn);
    AddStreamedTile<kI>(w, x, args.x_stride);
    w += tile_steps * kStepBytes;
    x += tile_steps * 4;
  }
  StoreSums<kI, 1>(args);
}

template <int kI>
void StreamSteps(const TileArgs& args) {
  const int64_t rest = args.steps % kTileSteps;
  TileArgs part = args;
  part.steps -= rest;
  if (part.steps > 0 || rest == 0) StreamTiles<kI>(part, kTileSteps);
  if (rest > 0) {
    part.w += part.steps * kStepBytes;
    part.x += part.steps * 4;
    part.first = args.first && part.steps == 0;
    part.steps = rest;
    StreamTiles<kI>(part, rest);
  }
}

void StreamTile(const TileArgs& args) {
  if (args.rows > amx::kTileRows) return StreamSteps<2>(args);
  StreamSteps<1>(args);
}

TileSet MakeStreamTiles() {
  TileSet set;
  for (int rows = 1; rows <= kRows; ++rows) {
    set.blocks[rows] = 1;
    set.wide[rows] = set.single[rows] = StreamTile;
  }
  return set;
}

// x of a panel: [row tile][32 columns][16 rows][32], whole tile registers that follow each other.
void PackX(const MatrixView& x, int64_t row, int64_t rows, int64_t first, int64_t count,
           char* out) {
  constexpr int64_t kColumns = 2 * kTileSteps;
  const int64_t row_tile = CeilDiv(count, kColumns) * amx::kTileBytes;
  for (int64_t r = 0; r < rows; ++r) {
    const uint16_t* from = x.Row<uint16_t>(row + r) + first;
    char* to = out + r / amx::kTileRows * row_tile + r % amx::kTileRows * amx::kTileRowBytes;
    int64_t c = 0;
    for (; c + kColumns <= count; c += kColumns, to += amx::kTileBytes) {
      std::memcpy(to, from + c, amx::kTileRowBytes);
    }
    if (c < count) std::memcpy(to, from + c, (count - c) * sizeof(uint16_t));
  }
}

// A sweep over row tiles of a panel whose shapes the tile registers have, `pairs` times the same.
// Weights of the blocks stay in L1 while x passes from L2. The chains of the next row tiles are
// fetched to L1; each pair prefetches `lines` a step of what follows.
template <int kI, int kJ>
void SweepTiles(TileArgs args, Range steps, int64_t pairs, int64_t lines) {
  const int64_t row_tile = CeilDiv(args.steps, kTileSteps) * amx::kTileBytes;
  const int64_t tiles = CeilDiv(steps.size(), kTileSteps);
  const int64_t chain_lines = CeilDiv(kRows, std::max<int64_t>(1, tiles));
  LoadSums<kI, kJ>(args);
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const char* w = args.w + steps.begin * kStepBytes;
    const char* x = args.x + steps.begin / kTileSteps * amx::kTileBytes;
    const float* chains = args.c + kRows * args.c_stride;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      for (int block = 0; block < kJ; ++block) {
        PrefetchLines<2>(args.next + block * args.w_stride, lines, /*pages_in_turn=*/false);
        PrefetchChains(chains + block * args.c_block_stride, chain_lines);
      }
      AddPanelTile<kI, kJ>(w, args.w_stride, x, row_tile);
      args.next += lines * 64;
      chains += chain_lines * kBlockRows;
      w += amx::kTileBytes;
      x += amx::kTileBytes;
    }
    if (pair + 1 < pairs) {
      SwapSums<kI, kJ>(args);
    } else {
      StoreSums<kI, kJ>(args);
    }
    args.x += 2 * row_tile;
    args.c += kRows * args.c_stride;
  }
}

// Steps of all rows, which are whole tiles of columns or part of one: whole pairs of row tiles and
// then what remains, so that tile registers change their shapes seldom.
template <int kJ>
void SweepColumns(TileArgs args, Range steps) {
  const int64_t tile_steps = steps.size() == 0 ? kTileSteps : std::min(kTileSteps, steps.size());
  const int64_t row_tile = CeilDiv(args.steps, kTileSteps) * amx::kTileBytes;
  const int64_t whole = args.rows / kRows, rest = args.rows % kRows;
  const int64_t lines = CeilDiv(kTileSteps, CeilDiv(args.rows, kRows));
  if (whole > 0) {
    Shape(kRows, tile_steps);
    SweepTiles<2, kJ>(args, steps, whole, lines);
  }
  if (rest == 0) return;
  args.next += whole * lines * CeilDiv(steps.size(), kTileSteps) * 64;
  args.x += 2 * whole * row_tile;
  args.c += whole * kRows * args.c_stride;
  Shape(rest, tile_steps);
  if (rest > amx::kTileRows) {
    SweepTiles<2, kJ>(args, steps, 1, lines);
  } else {
    SweepTiles<1, kJ>(args, steps, 1, lines);
  }
}

template <int kJ>
void SweepPanel(TileArgs args) {
  const int64_t rest = args.steps % kTileSteps, whole = args.steps - rest;
  if (whole > 0 || rest == 0) SweepColumns<kJ>(args, {0, whole});
  if (rest > 0) {
    args.first = args.first && whole == 0;
    SweepColumns<kJ>(args, {whole, args.steps});
  }
}

void Sweep(const TileArgs& args) {
  if (args.blocks > 1) return SweepPanel<2>(args);
  SweepPanel<1>(args);
}

void LoadX(const MatrixView& x, int64_t row, int64_t first, int64_t count, char* out) {
  std::memcpy(out, x.Row<uint16_t>(row) + first, count * sizeof(uint16_t));
}

ProductKernels MakeKernelsOfOneRow() {
  ProductKernels kernels = *FindKernelsAvx512(DType::kBF16, DType::kBF16);
  RK_CHECK(kernels.x_column_bytes == sizeof(float));
  kernels.max_rows = 1;
  kernels.stream = {
      .blocks = {0, 1}, .wide = {nullptr, StreamRowAsAmx}, .single = {nullptr, StreamRowAsAmx}};
  return kernels;
}

ProductKernels MakeKernels() {
  static const ProductKernels of_one_row = MakeKernelsOfOneRow();
  ProductKernels kernels;
  kernels.max_rows = kRows;
  kernels.stream = MakeStreamTiles();
  kernels.sweep = Sweep;
  kernels.pack_x = PackX;
  kernels.finish = Finish;
  kernels.of_one_row = &of_one_row;
  kernels.panel_shape = kPanelOfAmx;
  kernels.load_x = LoadX;
  kernels.x_in_compute_form = true;
  kernels.x_column_bytes = sizeof(uint16_t);
  kernels.epilogue = FindKernelsAvx512(DType::kBF16, DType::kBF16)->epilogue;
  return kernels;
}

const ProductKernels* FindKernelsAmx(DType weights, DType x) {
  static const ProductKernels kernels = MakeKernels();
  if (weights == DType::kBF16 && x == DType::kBF16) return &kernels;
  return FindKernelsAvx512(weights, x);
}

}  // namespace

void FillProductsAmx(OpTable* table) {
  table->products = [](const ProductsArgs& args, Stream stream) {
    RunProducts(args, stream, {FindKernelsAmx, FindBlockKernelsAmx});
  };
}

}  // namespace rankine
