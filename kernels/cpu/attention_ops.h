// What attention.cc and rope_append.cc share.
#pragma once

#include <cstdint>

#include "kernels/op_table.h"

namespace rankine {

void FillRopeAppendAvx2(OpTable* table);
void FillRopeAppendAvx512(OpTable* table);

}  // namespace rankine
