// What an instruction set gives to products with block-encoded weights (products_blocks.cc).
//
// With quantised activations a *step* is 16 outputs x 64 columns: its codes are unpacked once into
// registers and meet every row of x there (weights stationary), so one kernel serves decode and
// prefill. An output's chain, for each step in order:
//   t = sum over groups in order of (integer dot product) x scale [- (minus sum of codes) x offset]
//   chain = fma(t, scale of the record, chain)
// with t's sum made of fused multiply-adds; integer sums are exact, so every instruction set and
// every number of rows gives the same bits.
//
// With float activations the codes of a chunk are widened to f32 and then run as f32 weights.
#pragma once

#include <cstdint>

#include "kernels/api/block_layout.h"

namespace rankine {

// What a tile prefetches for each step, whose codes take so many bytes: a line more, since a
// chunk's header takes its share too. In the order in which it will be read: anything else is no
// stream to the prefetchers (one row of Q4_1 on Zen 5: 1.7 x as fast).
constexpr int64_t PrefetchedOfStep(int64_t code_bytes) { return code_bytes + 64; }

struct BlockTileArgs {
  const uint8_t* codes = nullptr;
  const float* scales = nullptr;   // [groups][16]; of 64 columns at least
  const float* offsets = nullptr;  // the same; null = none
  int group_shift = 0;             // log2 of the steps that a group spans
  int zero_bits = 0;               // log2 of the zero code; unused with offsets
  const char* x = nullptr;         // records of the first row, at the first step
  int64_t x_stride = 0;            // bytes between rows
  int64_t x_step = 0;              // bytes between the records of a row
  float* c = nullptr;              // chains [rows][16]
  int64_t rows = 0;
  int64_t steps = 0;
  bool first = false;  // chains start at zero, else at c
  // Prefetched while this runs, PrefetchedOfStep for each step, of one row into L1 and else into
  // L2, or in pages in turn (prefetch.h); any address.
  const char* next = nullptr;
  bool pages_in_turn = false;
};

using BlockTileFn = void (*)(const BlockTileArgs&);

struct WidenArgs {
  const uint8_t* codes = nullptr;
  const float* scales = nullptr;   // [groups][16]
  const float* offsets = nullptr;  // the same; null = none
  int64_t group = 0;               // columns
  int zero = 0;                    // the zero code
  int64_t steps = 0;
  float* out = nullptr;  // [steps x 64][16]
};

using WidenFn = void (*)(const WidenArgs&);

// Quantised rows as tiles of many rows read them (products_unpacked.cc): sixteen records, of rows
// that follow each other, with what is broadcast beside the codes. Zero where there is no row.
struct RecordTile {
  alignas(64) int8_t codes[kBlockRows][kStepColumns];
  float scales[kBlockRows];
  float minus_sums[4][kBlockRows];  // of the groups of weights in the step
};

// Sixteen outputs x up to 32 rows with a chunk whose codes have been unpacked; the chains of
// block_kernels.h above.
struct UnpackedTileArgs {
  const uint8_t* codes = nullptr;  // [steps][64 / 4][16][4], signed without offsets
  const float* scales = nullptr;   // as of BlockTileArgs
  const float* offsets = nullptr;
  int group_shift = 0;
  const RecordTile* x = nullptr;  // [row tiles][steps]
  float* c = nullptr;             // chains [row tiles x 16][16]
  int64_t row_tiles = 0;          // 1 or 2
  int64_t steps = 0;
  bool first = false;
  const char* next = nullptr;  // prefetched into L2 while this runs
  int64_t next_lines = 0;
};

using UnpackedTileFn = void (*)(const UnpackedTileArgs&);

// The codes of `steps` steps, a byte each, minus the zero code where there are no offsets.
using UnpackFn = void (*)(const uint8_t* codes, int64_t steps, int zero, uint8_t* out);

struct BlockKernels {
  BlockTileFn tile = nullptr;
  WidenFn widen = nullptr;
  // The same bits as tile's, faster from `many_rows` rows on; null: there are none.
  UnpackFn unpack = nullptr;
  UnpackedTileFn unpacked_tile = nullptr;
  // Before the first tile of a thread and after its last: what a processor must be told costs as
  // much as some of them.
  void (*begin_tiles)() = nullptr;
  void (*end_tiles)() = nullptr;
  int64_t many_rows = 0;
};

// Null kernels where the encoding has none.
BlockKernels FindBlockKernelsAvx2(const Encoding& encoding);
BlockKernels FindBlockKernelsAvx512(const Encoding& encoding);
BlockKernels FindBlockKernelsAvx512Vnni(const Encoding& encoding);
BlockKernels FindBlockKernelsAmx(const Encoding& encoding);

// The tile of int8 products by bits (2 3 4 5 6 8), smallest group (16, 32 or 64) and offsets.
BlockTileFn FindBlockTileAvx2(int bits, int64_t group, bool offsets);
BlockTileFn FindBlockTileAvx512Vnni(int bits, int64_t group, bool offsets);
// Their parts for many rows.
UnpackFn FindUnpackAvx512(int bits);
UnpackFn UnpackE8PAvx512Vbmi();
// unpacked_tile, begin_tiles and end_tiles.
void FindUnpackedTilesAmx(int64_t group, bool offsets, BlockKernels* kernels);
BlockTileFn E8PTileAvx2();
BlockTileFn E8PTileAvx512Vnni();
BlockTileFn E8PTileAvx512Vbmi();
WidenFn FindWidenAvx2(const Encoding& encoding);
WidenFn FindWidenAvx512(const Encoding& encoding);

// Expands one side of a chunk's header to f32 [groups][16], exactly. `chunk` is its first byte.
void ReadHeader(const ChunkLayout& layout, const HeaderNumbers& numbers, const char* chunk,
                float* out);

}  // namespace rankine
