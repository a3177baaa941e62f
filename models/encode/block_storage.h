// Block-encoded rows between memory (BlockRows, one code a byte) and files: which tensors a core of
// an encoding consists of, by role, and the bytes of each (docs/factorization.md, "Encodings and
// roles").
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "kernels/api/block_rows.h"
#include "runtime/factor/tensor_source.h"

namespace rankine {

struct BlockRole {
  const char* role;  // "codes", "scales", "super_scales", "offsets", "super_offsets"
  DType dtype;       // as stored: kU8, kI8, kF16 or kF32
  // Stored values for each row of the core; 0 for the one scale of an E8P matrix, which is of no
  // row.
  int64_t row_values;

  int64_t row_bytes() const { return row_values * static_cast<int64_t>(SizeOf(dtype)); }
};

// The roles of a block encoding (not a float one) for rows of `cols` values, codes first.
std::vector<BlockRole> BlockRoles(const Encoding& encoding, int64_t cols);

// Bytes of a matrix in that encoding, everything counted.
int64_t StoredBytes(const Encoding& encoding, int64_t rows, int64_t cols);

// Gives the buffer its encoding and extents, and room for them; contents are not defined.
void ResizeBlockRows(const Encoding& encoding, int64_t rows, int64_t cols, BlockRowsBuffer* buffer);

// The stored bytes of a role for all of `rows`: rows.rows x row_bytes, or the one scale.
// Requires scales and offsets that their stored type holds exactly.
std::vector<uint8_t> StoreRole(const BlockRows& rows, const BlockRole& role);

// The inverse, into a buffer that ResizeBlockRows has laid out. kInvalidArgument for scales or
// offsets that are not finite, or so large that a decoded value would not be: the message says row
// and group, not the tensor. `first_row` is what row 0 of the buffer is called there.
absl::Status LoadRole(const uint8_t* stored, const BlockRole& role, int64_t first_row,
                      BlockRowsBuffer* buffer);

// As LoadRole checks what it reads, for rows that come from elsewhere (GGML blocks).
absl::Status CheckBlockNumbers(const BlockRowsBuffer& buffer, int64_t first_row);

}  // namespace rankine
