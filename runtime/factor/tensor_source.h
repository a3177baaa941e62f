// Where the numbers of cores come from: a checkpoint, or a test.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/api/block_rows.h"
#include "kernels/base/dtype.h"
#include "runtime/factor/factored_matrix.h"

namespace rankine {

// Block-encoded rows with the memory they lie in (kernels/api/block_rows.h).
struct BlockRowsBuffer {
  Encoding encoding;
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<uint8_t> codes;
  std::vector<float> scales, offsets;
  std::vector<int8_t> scale_codes, offset_codes;

  BlockRows view() const {
    auto data = [](const auto& v) { return v.empty() ? nullptr : v.data(); };
    return {.encoding = encoding,
            .rows = rows,
            .cols = cols,
            .codes = codes.data(),
            .scales = scales.data(),
            .offsets = data(offsets),
            .scale_codes = data(scale_codes),
            .offset_codes = data(offset_codes)};
  }
};

// Thread-safe.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  // Rows [row_begin, row_end) of a float tensor as `dtype` (a vector is one row) into `out`
  // [row_end - row_begin, cols], contiguous. An error that names the tensor when its rows do not
  // have `cols` values: `out` has room for no more.
  virtual absl::Status ReadRows(const std::string& tensor, int64_t row_begin, int64_t row_end,
                                int64_t cols, DType dtype, void* out) const = 0;
  // Rows [row_begin, row_end) of a block-encoded core as stored: its last leg makes the columns,
  // all others, slowest first, the rows. The columns are those of the stored tensor, which must be
  // `cols`. kUnimplemented: a source without block-encoded tensors.
  virtual absl::Status ReadBlockRows(const Core& core, int64_t row_begin, int64_t row_end,
                                     int64_t cols, BlockRowsBuffer* out) const;
  // The first extent of a tensor. kUnimplemented: a source that does not know.
  virtual absl::StatusOr<int64_t> NumRows(const std::string& tensor) const;
};

}  // namespace rankine
