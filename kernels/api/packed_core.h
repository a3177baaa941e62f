// The device's own form of a matrix W [n, k] used as y = x W^T, and the ops that make it and gather
// from it.
//
// Outputs stand in blocks of 16; inside a block the summed index runs slowest, in pairs for 16-bit
// types:
//   f32         [n/16][k][16]
//   f16, bf16   [n/16][k/2][16][2]
// so that a dot-product instruction consumes one weight register and one broadcast of the
// activations. A prefix of the rows of W is a prefix of blocks; block_stride stands apart from k,
// so a prefix of k is addressed without a copy. Rows n..RoundUp(n, 16) and column k of an odd k are
// zero.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/math.h"
#include "kernels/base/stream.h"
#include "kernels/base/tensor_view.h"

namespace rankine {

inline constexpr int64_t kBlockRows = 16;

struct PackedCore {
  void* data = nullptr;  // 64-byte aligned
  DType dtype = DType::kF32;
  int64_t n = 0;             // output features
  int64_t k = 0;             // summed features
  int64_t block_stride = 0;  // bytes between blocks of 16 outputs

  int64_t num_blocks() const { return CeilDiv(n, kBlockRows); }
};

// Summed features as stored: pairs for 16-bit types.
constexpr int64_t PackedColumns(DType dtype, int64_t k) {
  return dtype == DType::kF32 ? k : RoundUp(k, 2);
}
constexpr int64_t PackedBlockBytes(DType dtype, int64_t k) {
  return PackedColumns(dtype, k) * kBlockRows * static_cast<int64_t>(SizeOf(dtype));
}
constexpr int64_t PackedBytes(DType dtype, int64_t n, int64_t k) {
  return CeilDiv(n, kBlockRows) * PackedBlockBytes(dtype, k);
}

// Packs rows [0, source.rows) of W into rows [row_offset, row_offset + source.rows) of `core`.
// Requires source.dtype == core.dtype, source.cols == core.k. The buffer was zeroed before the
// first call. Calls for disjoint rows may run at once, on different threads.
struct PackRowsArgs {
  MatrixView source;  // [rows, k]
  int64_t row_offset = 0;
  PackedCore core;
};

// out[t, :] = W[ids[t], :] as f32, e.g. the embedding of tokens from a (tied) packed matrix.
// Requires 0 <= ids[t] < n; out f32 [num_ids, k], pad columns set to zero.
struct GatherRowsArgs {
  PackedCore core;
  const int32_t* ids = nullptr;
  int64_t num_ids = 0;
  MatrixView out;
};

}  // namespace rankine
