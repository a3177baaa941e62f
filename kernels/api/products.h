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

struct Product {
  PackedCore weights;  // W [n, k]
  // [num_tokens, k]: f32 or bf16, with weights of any dtype.
  // Columns k..RoundUp(k, 2) are readable and zero.
  MatrixView x;
  // [num_tokens, n]: f32 or bf16. Columns up to RoundUp(n, 16) are written (pads with zeros).
  MatrixView y;
  const float* scale = nullptr;  // [RoundUp(n, 16)]; null = 1
  const float* bias = nullptr;   // [RoundUp(n, 16)]; null = 0
  bool accumulate = false;       // y += instead of y =; y is then f32
};

struct ProductsArgs {
  const Product* products = nullptr;
  int num_products = 0;
  int64_t num_tokens = 0;
};

}  // namespace rankine
