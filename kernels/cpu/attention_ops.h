// What attention.cc and rope_append.cc share.
#pragma once

#include <cstdint>

#include "kernels/op_table.h"

namespace rankine {

// Largest head_dim; buffers on the stack and in the workspace are sized by it.
inline constexpr int64_t kMaxHeadDim = 256;

void FillRopeAppendAvx2(OpTable* table);
void FillRopeAppendAvx512(OpTable* table);

}  // namespace rankine
