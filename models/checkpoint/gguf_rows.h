// Reading rows of one tensor of a GGUF file: pread, decode, put into Hugging Face order, convert.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "kernels/base/dtype.h"
#include "models/checkpoint/gguf_header.h"
#include "models/files/file.h"
#include "runtime/factor/tensor_source.h"

namespace rankine {

// Where the rows of a tensor are.
struct GgufRows {
  GgufTensor tensor;  // of one or two dimensions
  // Not 0: stored row (head, j, half) is row (head, half, j) of the tensor, for heads of this many
  // rows. Of a vector (a bias) the values are ordered so.
  int64_t interleaved_head_dim = 0;
};

// Row of the file that holds `row` of the tensor.
inline int64_t StoredRow(const GgufRows& rows, int64_t row) {
  const int64_t head_dim = rows.interleaved_head_dim;
  if (head_dim == 0) return row;
  const int64_t within = row % head_dim;
  return row - within + within % (head_dim / 2) * 2 + within / (head_dim / 2);
}

struct RowRange {
  int64_t begin = 0;
  int64_t end = 0;
};

// As Checkpoint::ReadRows; `name` is what messages call the tensor. Thread-safe; takes buffers of
// about 1 MiB, or of the rows of one head.
absl::Status ReadGgufRows(const ReadOnlyFile& file, const GgufRows& rows, const std::string& name,
                          RowRange range, DType dtype, void* out);

// The same rows of a block type without decoding, in the encoding AffineEncoding(type)
// (ggml_affine.h). kInvalidArgument when the tensor is no matrix of blocks.
absl::Status ReadGgufBlockRows(const ReadOnlyFile& file, const GgufRows& rows,
                               const std::string& name, RowRange range, BlockRowsBuffer* out);

}  // namespace rankine
