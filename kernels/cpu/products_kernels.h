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
  float* c = nullptr;       // chains of row r, block b: c[r * c_stride + 16 b ..]
  int64_t c_stride = 0;     // in floats
  int64_t steps = 0;
  bool first = false;          // chains start at zero, else at c
  const char* next = nullptr;  // streaming tiles: weights to prefetch after these; any address
};

using TileFn = void (*)(const TileArgs&);

inline constexpr int kMaxTileRows = 12;

// Tiles by number of rows (index 0 unused): the widest, and one for single blocks that remain.
struct TileSet {
  int blocks[kMaxTileRows + 1] = {};
  TileFn wide[kMaxTileRows + 1] = {};
  TileFn single[kMaxTileRows + 1] = {};
};

struct EpilogueArgs {
  const float* c = nullptr;
  int64_t c_stride = 0;
  int64_t rows = 0;
  int64_t blocks = 0;
  const Product* product = nullptr;
  int64_t first_row = 0;    // row of x of c's first row
  int64_t first_block = 0;  // block of c's first column
};

// The kernels for one pair of weight and activation dtypes.
struct ProductKernels {
  int max_rows = 0;  // of a tile
  // Few rows: weights are read once, in their stored form, with prefetch.
  TileSet stream;
  // Many rows: weights in the panel's form, from cache.
  TileSet panel;
  // Weights of one block to the panel's form, `steps` steps; null: the stored form is used.
  void (*widen_weights)(const char* w, int64_t steps, char* out) = nullptr;
  // Copies columns of one row of x in the compute form of the tiles: f32 or bf16.
  void (*load_x)(const MatrixView& x, int64_t row, int64_t first_column, int64_t num_columns,
                 char* out) = nullptr;
  bool x_in_compute_form = false;  // stored x needs no conversion
  int x_column_bytes = 0;          // of the compute form: 4 (f32) or 2 (bf16)
  void (*epilogue)(const EpilogueArgs&) = nullptr;
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
