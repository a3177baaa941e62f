// What an instruction set gives to the product driver (products_driver.cc): register tiles and
// conversions.
//
// A *step* is one register's worth of a weight block: 16 outputs x one dword (one f32, or two
// 16-bit values), 64 bytes. A *tile* computes rows x blocks accumulators (16 outputs wide) over a
// run of steps, each accumulator being one chain in the order of k; loading and storing chains as
// f32 between runs is exact. So the value of an output depends on no tile shape, and tiles may be
// chosen by the number of tokens.
#pragma once

#include <cstdint>

#include "kernels/api/products.h"
#include "kernels/cpu/block_kernels.h"

namespace rankine {

struct TileArgs {
  const char* w = nullptr;  // first block, first step
  int64_t w_stride = 0;     // bytes between blocks
  const char* x = nullptr;  // first row, first step; in the tile's compute form
  int64_t x_stride = 0;     // bytes between rows
  float* c = nullptr;       // chains of row r, block b: c[r * c_stride + 16 b ..]; in floats
  int64_t c_stride = 0;
  int64_t c_block_stride = kBlockRows;  // another than 16 in sweeps alone
  int64_t rows = 0;                     // of a tile of a set, as its place there says
  int64_t blocks = 0;                   // of a sweep
  int64_t steps = 0;
  bool first = false;          // chains start at zero, else at c
  const char* next = nullptr;  // streaming tiles: weights to prefetch after these; any address
  bool pages_in_turn = false;  // in which order (prefetch.h)
};

using TileFn = void (*)(const TileArgs&);

// Of the tiles in sets.
inline constexpr int kMaxTileRows = 32;

// Tiles by number of rows (index 0 unused): the widest, and one for single blocks that remain.
struct TileSet {
  int blocks[kMaxTileRows + 1] = {};
  TileFn wide[kMaxTileRows + 1] = {};
  TileFn single[kMaxTileRows + 1] = {};
};

// How many tokens are cut into panels (products_panel.cc). Sizes are in L2: of the chains, rows x
// blocks x 64 bytes, and of the slab of x, rows x slab_row_bytes.
struct PanelShape {
  int64_t rows = 0;
  int64_t blocks = 0;  // at most
  // Most bytes of one row of a slab of x, in the tiles' form.
  int64_t slab_row_bytes = 0;
  // Runs of steps are cut at multiples of so many, which one instruction sums.
  int64_t step_unit = 1;
};
// A slab of x is 288 kB and a pair of blocks 48 kB. Speed is flat from 1 to 2 kB a row; this runs
// k = 576 (bf16) in one slab.
inline constexpr PanelShape kPanelOfVectors{.rows = 192, .blocks = 8, .slab_row_bytes = 1536};
// Ten times as fast, so weights and x must be read from memory less often. A pair of blocks, 32 kB,
// stays in L1.
inline constexpr PanelShape kPanelOfAmx{
    .rows = 256, .blocks = 64, .slab_row_bytes = 1024, .step_unit = 16};

struct EpilogueArgs {
  const float* c = nullptr;
  int64_t c_stride = 0;                 // floats between rows
  int64_t c_block_stride = kBlockRows;  // and between blocks
  int64_t rows = 0;
  int64_t blocks = 0;
  const Product* product = nullptr;
  int64_t first_row = 0;    // row of x of c's first row
  int64_t first_block = 0;  // block of c's first column
};

inline constexpr int kMaxSweepBlocks = 2;

// The kernels for one pair of weight and activation dtypes.
struct ProductKernels {
  int max_rows = 0;  // of a tile
  // Few rows: weights are read once, in their stored form, with prefetch.
  TileSet stream;
  // Many rows: weights in the panel's form, from cache.
  TileSet panel;
  // In its place: all rows of a panel with up to kMaxSweepBlocks blocks, prefetching `next` on the
  // way, and x as pack_x leaves it. Null: there is none.
  TileFn sweep = nullptr;
  // `count` columns from `first` on of `rows` rows of x, from row `row` on, to the form that sweep
  // reads; RoundUp(rows, 16) x RoundUp(count, 32) values.
  void (*pack_x)(const MatrixView& x, int64_t row, int64_t rows, int64_t first, int64_t count,
                 char* out) = nullptr;
  PanelShape panel_shape = kPanelOfVectors;
  // Weights of one block to the panel's form, `steps` steps; null: the stored form is used.
  void (*widen_weights)(const char* w, int64_t steps, char* out) = nullptr;
  // Copies columns of one row of x in the compute form of the tiles: f32 or bf16.
  void (*load_x)(const MatrixView& x, int64_t row, int64_t first_column, int64_t num_columns,
                 char* out) = nullptr;
  bool x_in_compute_form = false;  // stored x needs no conversion
  int x_column_bytes = 0;          // of the compute form: 4 (f32) or 2 (bf16)
  void (*epilogue)(const EpilogueArgs&) = nullptr;
  // After a thread's last tile of a run of blocks; null: nothing is to be done.
  void (*finish)() = nullptr;
  // Those that give the same bits and are faster where x has a single row; null: these.
  const ProductKernels* of_one_row = nullptr;
};

// The kernels for a pair of dtypes; null when there are none.
using FindKernelsFn = const ProductKernels* (*)(DType weights, DType x);
const ProductKernels* FindKernelsAvx2(DType weights, DType x);
const ProductKernels* FindKernelsAvx512(DType weights, DType x);
const ProductKernels* FindKernelsAvx512Bf16(DType weights, DType x);

// All that an instruction set brings.
struct KernelSet {
  FindKernelsFn floats = nullptr;
  BlockKernels (*blocks)(const Encoding& encoding) = nullptr;
};

// Runs all products of the call on the stream's threads, with one barrier.
void RunProducts(const ProductsArgs& args, Stream stream, const KernelSet& set);

}  // namespace rankine
