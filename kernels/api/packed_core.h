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
//
// Block-encoded cores (dtype kU8): a block of 16 outputs is a run of chunks of kChunkColumns
// columns (the last one other, a multiple of 64), each a header and codes, read as one stream:
//   header  scales [groups][16] as f16 or f32 (two levels: f16 [supers][16], then i8 [groups][16]);
//           offsets in the same way, where the encoding has them; padded to 64 bytes. e8p: f32 [16]
//   codes   for each 64 columns 128 x bits bytes, as bit planes of vectors of 64 bytes: byte j of a
//           vector belongs to output j / 4, and quad q is columns 4 q..4 q + 3 of the 64:
//             8 bits  16 vectors, vector q = quad q
//             4 bits  8 vectors, vector v = quad v (low nibble), quad v + 8 (high nibble)
//             2 bits  4 vectors, vector v = quads v, v + 4, v + 8, v + 12 from the low bits up
//             1 bit   2 vectors, vector v = quads v, v + 2, .. v + 14 from the low bits up
//           3 bits = low two, then the third; 5 = low four, the fifth; 6 = low four, the upper two.
//           e8p: for each 64 columns 128 codewords of 16 bits, two octets of columns to a vector in
//           the order of E8PPlace, from which bytes unpack and halves interleave to quads
// A group of a whole row is stored as groups of 128. Codes, scales and offsets beyond row n or
// column k are zero, and every byte belongs to one output. See kernels/api/block_layout.h.
#pragma once

#include <cstdint>

#include "kernels/api/block_rows.h"
#include "kernels/base/dtype.h"
#include "kernels/base/encoding.h"
#include "kernels/base/math.h"
#include "kernels/base/stream.h"
#include "kernels/base/tensor_view.h"

namespace rankine {

inline constexpr int64_t kBlockRows = 16;

struct PackedCore {
  void* data = nullptr;       // 64-byte aligned
  DType dtype = DType::kF32;  // kU8: block-encoded, as `encoding` says
  Encoding encoding;          // dtype kU8 only
  int64_t n = 0;              // output features
  int64_t k = 0;              // summed features
  int64_t block_stride = 0;   // bytes between blocks of 16 outputs

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

inline constexpr int64_t kChunkColumns = 512;
// A few columns more go to the last chunk rather than to one of their own, whose start would cost
// more than they do.
inline constexpr int64_t kMaxChunkColumns = kChunkColumns + 128;

// Chunks of a block with k columns, and the columns of one, padded to 64; 0 beyond the last.
constexpr int64_t NumChunks(int64_t k) {
  const int64_t whole = k / kChunkColumns, rest = k % kChunkColumns;
  return rest == 0 || (whole > 0 && rest <= kMaxChunkColumns - kChunkColumns) ? whole : whole + 1;
}
constexpr int64_t ColumnsOfChunk(int64_t k, int64_t index) {
  if (index >= NumChunks(k)) return 0;
  return index + 1 < NumChunks(k) ? kChunkColumns : RoundUp(k, 64) - index * kChunkColumns;
}

// Whether the first `prefix` of k columns are whole chunks, so that a core with k = prefix can be
// read from the same memory.
constexpr bool IsPrefixOfChunks(int64_t prefix, int64_t k) {
  return prefix % kChunkColumns == 0 && prefix / kChunkColumns < NumChunks(k);
}
// Columns of a group as packed, and bytes of the header and of the codes of a chunk of `columns`.
int64_t PackedGroupColumns(const Encoding& encoding);
int64_t ChunkHeaderBytes(const Encoding& encoding, int64_t columns);
int64_t ChunkCodeBytes(const Encoding& encoding, int64_t columns);
// Bytes of a block of 16 outputs, and of the whole, for block encodings.
int64_t PackedBlockBytes(const Encoding& encoding, int64_t k);
int64_t PackedBytes(const Encoding& encoding, int64_t n, int64_t k);

// Packs rows [0, source.rows) of W into rows [row_offset, row_offset + source.rows) of `core`.
// Requires source.dtype == core.dtype, source.cols == core.k. The buffer was zeroed before the
// first call. Calls for disjoint rows may run at once, on different threads.
struct PackRowsArgs {
  MatrixView source;  // [rows, k]
  int64_t row_offset = 0;
  PackedCore core;
};

// The same for a block-encoded core; source.encoding == core.encoding.
struct PackBlocksArgs {
  BlockRows source;
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
