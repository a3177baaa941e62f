// The parts that RefOps is assembled from; each writes its own pointers of the table and no others.
#pragma once

#include "kernels/op_table.h"

namespace rankine {

void FillRefPacking(OpTable* table);   // pack_rows, pack_blocks, gather_rows
void FillRefProducts(OpTable* table);  // products
// rms_norm, silu_mul, layer_norm, gelu, convert, hadamard, permute, add
void FillRefElementwise(OpTable* table);
void FillRefAttention(OpTable* table);  // rope_append, attention

}  // namespace rankine
