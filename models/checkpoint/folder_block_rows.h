// Reading block-encoded cores of a model folder, tensor by tensor of their roles.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "models/checkpoint/safetensors.h"
#include "runtime/factor/tensor_source.h"

namespace rankine {

// As Checkpoint::ReadBlockRows; `source` begins every message.
absl::Status ReadFolderBlockRows(const SafetensorsSet& files, const std::string& source,
                                 const Core& core, int64_t row_begin, int64_t row_end, int64_t cols,
                                 BlockRowsBuffer* out);

}  // namespace rankine
