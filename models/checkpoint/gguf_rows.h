// Reading rows of one tensor of a GGUF file: pread, decode, put into Hugging Face order, convert.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "kernels/base/dtype.h"
#include "models/checkpoint/gguf_header.h"
#include "models/files/file.h"

namespace rankine {

// Where the rows of a tensor are.
struct GgufRows {
  GgufTensor tensor;  // of one or two dimensions
  // Not 0: stored row (head, j, half) is row (head, half, j) of the tensor, for heads of this many
  // rows. Of a vector (a bias) the values are ordered so.
  int64_t interleaved_head_dim = 0;
};

struct RowRange {
  int64_t begin = 0;
  int64_t end = 0;
};

// As Checkpoint::ReadRows; `name` is what messages call the tensor. Thread-safe; takes buffers of
// about 1 MiB, or of the rows of one head.
absl::Status ReadGgufRows(const ReadOnlyFile& file, const GgufRows& rows, const std::string& name,
                          RowRange range, DType dtype, void* out);

}  // namespace rankine
