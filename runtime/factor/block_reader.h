// Block-encoded cores on their way from a checkpoint to the packer: rows in the order of W, the
// columns that the matrix takes. Internal to core_reader.cc.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "runtime/factor/core_reader.h"

namespace rankine {

// Requires part.step.block_encoded.
std::unique_ptr<CoreReader> MakeBlockReader(const FactoredMatrix& matrix, const CorePart& part,
                                            const TensorSource& source);

// The values of rows [begin, end) of the first leg as stored, each of `cols` values, in f32. For a
// core with one leg the row is all of it.
absl::Status DecodeSlab(const Core& core, int64_t begin, int64_t end, int64_t cols,
                        const TensorSource& source, float* out);

}  // namespace rankine
