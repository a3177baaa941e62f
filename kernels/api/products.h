// Products: y = (x W^T) * scale + bias (+ y), for one or several independent matrices in one
// parallel region.
//
// Every output element is summed over k in one order that depends on nothing but k, dtype and ISA:
// not on the number of tokens, threads or neighbours. So a token's result does not depend on what
// else is in its batch.
#pragma once

#include <cstdint>

#include "kernels/api/packed_core.h"

namespace rankine {

// A product over one leg of a tensor. Token t has `rows_per_token` rows of x, the legs that stand
// before the summed one, and its rows follow each other: x row (t, a) is row t * rows_per_token + a
// of x. The columns of a row of the result are [n / run][run]: element (t, a, j, c), c < run, goes
// to
//   y.data + t * y.stride + j * run_stride + a * run + c,
// so that the leg of `run` columns stays innermost and the others come before the rows. Without
// rows (rows_per_token = 1, run = 0) this is the plain y [num_tokens, n].
struct Product {
  PackedCore weights;  // W [n, k]
  // [num_tokens x rows_per_token, k]: f32 or bf16 with weights of any dtype, or i8 (quantised rows)
  // with block-encoded ones. Columns k..RoundUp(k, 2) (block-encoded: RoundUp(k, 64)) are readable;
  // their values are finite and multiply zeros.
  MatrixView x;
  // [num_tokens, ...]: f32 or bf16. Without `run`, columns up to RoundUp(n, 16) are written (pads
  // with zeros); with it, exactly the n columns of each row.
  MatrixView y;
  int64_t rows_per_token = 1;
  int64_t run = 0;               // divides n; 0 = n, contiguous
  int64_t run_stride = 0;        // elements of y
  const float* scale = nullptr;  // [RoundUp(n, 16)]; null = 1
  const float* bias = nullptr;   // [RoundUp(n, 16)]; null = 0
  bool accumulate = false;       // y += instead of y =; y is then f32
};

// Rows a multiple of this apart fall into two sets of a 32 kB, 8-way L1, where more than eight
// evict each other: x is better stored otherwise, or is copied first.
inline constexpr int64_t kCollidingBytes = 2048;

struct ProductsArgs {
  const Product* products = nullptr;
  int num_products = 0;
  int64_t num_tokens = 0;
};

}  // namespace rankine
