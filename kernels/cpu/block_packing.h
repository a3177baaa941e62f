// Packing of block-encoded rows, and rows of packed cores as floats.
#pragma once

#include "kernels/api/packed_core.h"

namespace rankine {

void PackBlocks(const PackBlocksArgs& args);

// Row `row` of a block-encoded core to out[0, k), zeros up to RoundUp(k, 16).
void GatherBlockRow(const PackedCore& core, int64_t row, float* out);

}  // namespace rankine
