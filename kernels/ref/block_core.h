// Block-encoded cores, element by element.
#pragma once

#include "kernels/api/packed_core.h"

namespace rankine {

// The value of W[row, col] as kernels define it: in f32 the product is rounded, then the sum.
float BlockElement(const PackedCore& core, int64_t row, int64_t col);

// Its parts: value = scale * (code - zero) + offset; kE8P in quarters, with a quarter of its scale.
struct BlockParts {
  float scale = 0;
  float offset = 0;
  int code = 0;  // less the zero code
};
BlockParts BlockPartsAt(const PackedCore& core, int64_t row, int64_t col);

void RefPackBlocks(const PackBlocksArgs& args);

}  // namespace rankine
