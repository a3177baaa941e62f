// The parts that the CPU's op tables are assembled from; each writes its own pointers of the table
// and no others. A table's functions run only on a machine that has its instructions (dispatch.cc),
// but filling it needs none. Ops for which an ISA brings nothing share the code of the ISA below.
#pragma once

#include "kernels/op_table.h"

namespace rankine {

// pack_rows, pack_blocks, gather_rows
void FillPackingAvx2(OpTable* table);
void FillPackingAvx512(OpTable* table);

// products
void FillProductsAvx2(OpTable* table);
void FillProductsAvx512(OpTable* table);
void FillProductsAvx512Vnni(OpTable* table);
void FillProductsAvx512Bf16(OpTable* table);
void FillProductsAmx(OpTable* table);

// rms_norm, silu_mul, convert, permute, add
void FillElementwiseAvx2(OpTable* table);
void FillElementwiseAvx512(OpTable* table);

// hadamard
void FillHadamardAvx2(OpTable* table);
void FillHadamardAvx512(OpTable* table);

// layer_norm, gelu
void FillLayerNormGeluAvx2(OpTable* table);
void FillLayerNormGeluAvx512(OpTable* table);

// rope_append, attention
void FillAttentionAvx2(OpTable* table);
void FillAttentionAvx512(OpTable* table);

}  // namespace rankine
