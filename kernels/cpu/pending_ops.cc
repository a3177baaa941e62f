// Empty fillers that let the tables link until the real ones land: whoever lands a filler deletes
// its line here.
#include "kernels/cpu/cpu_ops.h"
#include "kernels/ref/ref_ops.h"

namespace rankine {

void FillRefPacking(OpTable*) {}
void FillPackingAvx2(OpTable*) {}
void FillPackingAvx512(OpTable*) {}

void FillRefProducts(OpTable*) {}
void FillProductsAvx2(OpTable*) {}
void FillProductsAvx512(OpTable*) {}
void FillProductsAvx512Bf16(OpTable*) {}

void FillRefElementwise(OpTable*) {}
void FillElementwiseAvx2(OpTable*) {}
void FillElementwiseAvx512(OpTable*) {}

void FillRefAttention(OpTable*) {}
void FillAttentionAvx2(OpTable*) {}
void FillAttentionAvx512(OpTable*) {}

}  // namespace rankine
