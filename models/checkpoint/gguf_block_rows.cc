// Block rows of a GGUF tensor, as members of the affine block family.
#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "models/checkpoint/ggml_affine.h"
#include "models/checkpoint/gguf_metadata.h"
#include "models/checkpoint/gguf_rows.h"
#include "models/encode/block_storage.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// Bytes fetched by one pread.
constexpr int64_t kChunkBytes = int64_t{512} << 10;

// How many rows from `begin` on to read at once: what follows in the file as well, or, where the
// rows of a head are interleaved, rows of the same head.
int64_t PartEnd(const GgufRows& rows, RowRange range, int64_t row_bytes) {
  const int64_t head_dim = rows.interleaved_head_dim;
  if (head_dim != 0) return std::min(range.end, (range.begin / head_dim + 1) * head_dim);
  return std::min(range.end, range.begin + std::max<int64_t>(1, kChunkBytes / row_bytes));
}

}  // namespace

absl::Status ReadGgufBlockRows(const ReadOnlyFile& file, const GgufRows& rows,
                               const std::string& name, RowRange range, BlockRowsBuffer* out) {
  const GgufTensor& tensor = rows.tensor;
  const std::string place = absl::StrCat(file.path(), ": tensor ", QuoteName(name));
  const std::optional<Encoding> encoding = AffineEncoding(tensor.type);
  if (!encoding || tensor.shape.size() != 2) {
    return absl::InvalidArgumentError(absl::StrCat(place, " is not a block-encoded matrix"));
  }
  if (range.begin < 0 || range.begin > range.end || range.end > tensor.shape[0]) {
    return absl::OutOfRangeError(absl::StrCat(place, " has ", tensor.shape[0], " rows; rows ",
                                              range.begin, " to ", range.end, " were asked for"));
  }
  ResizeBlockRows(*encoding, range.end - range.begin, tensor.shape[1], out);
  const int64_t row_bytes = tensor.bytes / std::max<int64_t>(1, tensor.shape[0]);
  const int64_t origin = range.begin;
  std::vector<uint8_t> stored;
  while (range.begin < range.end) {
    const int64_t end = PartEnd(rows, range, row_bytes);
    int64_t first = StoredRow(rows, range.begin), last = first;
    for (int64_t row = range.begin; row < end; ++row) {
      first = std::min(first, StoredRow(rows, row));
      last = std::max(last, StoredRow(rows, row));
    }
    stored.resize((last - first + 1) * row_bytes);
    RK_RETURN_IF_ERROR(file.ReadAt(tensor.offset + first * row_bytes,
                                   static_cast<int64_t>(stored.size()), stored.data()));
    for (int64_t row = range.begin; row < end; ++row) {
      SplitBlocks(tensor.type, stored.data() + (StoredRow(rows, row) - first) * row_bytes,
                  row - origin, out);
    }
    range.begin = end;
  }
  const absl::Status finite = CheckBlockNumbers(*out, origin);
  if (finite.ok()) return finite;
  return absl::Status(finite.code(), absl::StrCat(place, ": ", finite.message()));
}

}  // namespace rankine
