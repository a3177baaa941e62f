#include "models/checkpoint/gguf_rows.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "models/checkpoint/gguf_metadata.h"

namespace rankine {
namespace {

// Values decoded at a time: 1 MiB of floats stays in the second-level cache, and one pread fetches
// enough to hide the call. A multiple of every block size.
constexpr int64_t kChunkValues = int64_t{256} << 10;

// The tensor seen as a matrix; a vector is one row.
struct Matrix {
  int64_t rows;
  int64_t cols;
  int64_t row_bytes;
};

Matrix AsMatrix(const GgufRows& rows) {
  const std::vector<int64_t>& shape = rows.tensor.shape;
  const bool is_vector = shape.size() == 1;
  Matrix matrix;
  matrix.rows = is_vector ? 1 : shape[0];
  matrix.cols = shape.back();
  matrix.row_bytes = rows.tensor.bytes / matrix.rows;
  return matrix;
}

// Exponent bits all ones: infinity or NaN.
bool IsFinite(float v) { return (std::bit_cast<uint32_t>(v) & 0x7F800000u) != 0x7F800000u; }
bool IsFinite(F16 v) { return (v.bits & 0x7C00u) != 0x7C00u; }
bool IsFinite(BF16 v) { return (v.bits & 0x7F80u) != 0x7F80u; }

// The index of the first value that is not finite as T; `count` when there is none.
template <class T>
int64_t Convert(const float* values, int64_t count, void* out) {
  T* typed = static_cast<T*>(out);
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) {
    typed[i] = FromFloat<T>(values[i]);
    finite &= IsFinite(typed[i]);
  }
  if (finite) return count;
  for (int64_t i = 0; i < count; ++i) {
    if (!IsFinite(typed[i])) return i;
  }
  return count;
}

class RowReader {
 public:
  RowReader(const ReadOnlyFile& file, const GgufRows& rows, const std::string& name, DType dtype)
      : file_(file), rows_(rows), name_(name), dtype_(dtype), matrix_(AsMatrix(rows)) {}

  absl::Status Read(RowRange range, void* out) {
    uint8_t* bytes = static_cast<uint8_t*>(out);
    if (rows_.interleaved_head_dim == 0) return ReadPlain(range, bytes);
    if (rows_.tensor.shape.size() == 1)
      return range.begin < range.end ? ReadInterleavedVector(bytes) : absl::OkStatus();
    const int64_t head_dim = rows_.interleaved_head_dim;
    while (range.begin < range.end) {
      const int64_t head_end = (range.begin / head_dim + 1) * head_dim;
      const RowRange part{range.begin, std::min(range.end, head_end)};
      const absl::Status status = ReadWithinHead(part, bytes);
      if (!status.ok()) return status;
      bytes += (part.end - part.begin) * matrix_.cols * static_cast<int64_t>(SizeOf(dtype_));
      range.begin = part.end;
    }
    return absl::OkStatus();
  }

 private:
  // Rows that follow each other in the file as well.
  absl::Status ReadPlain(RowRange range, uint8_t* out) {
    const BlockFormat& format = GetBlockFormat(rows_.tensor.type);
    int64_t at = range.begin * matrix_.cols;
    const int64_t end = range.end * matrix_.cols;
    const int64_t chunk = std::min(kChunkValues, end - at);
    stored_.resize(chunk / format.values_per_block * format.bytes_per_block);
    values_.resize(chunk);
    while (at < end) {
      const int64_t count = std::min(chunk, end - at);
      const int64_t blocks = count / format.values_per_block;
      const absl::Status status =
          file_.ReadAt(rows_.tensor.offset + at / format.values_per_block * format.bytes_per_block,
                       blocks * format.bytes_per_block, stored_.data());
      if (!status.ok()) return status;
      DecodeBlocks(rows_.tensor.type, stored_.data(), blocks, values_.data());
      const int64_t bad = ConvertTo(values_.data(), count, out);
      if (bad < count) return NotFinite(at + bad, values_[bad]);
      out += count * static_cast<int64_t>(SizeOf(dtype_));
      at += count;
    }
    return absl::OkStatus();
  }

  // Rows of one head: one pread of the stored rows from the first to the last that is needed, at
  // most one head.
  absl::Status ReadWithinHead(RowRange range, uint8_t* out) {
    int64_t first = StoredRow(rows_, range.begin);
    int64_t last = first;
    for (int64_t row = range.begin; row < range.end; ++row) {
      first = std::min(first, StoredRow(rows_, row));
      last = std::max(last, StoredRow(rows_, row));
    }
    stored_.resize((last - first + 1) * matrix_.row_bytes);
    values_.resize(matrix_.cols);
    const absl::Status status = file_.ReadAt(rows_.tensor.offset + first * matrix_.row_bytes,
                                             static_cast<int64_t>(stored_.size()), stored_.data());
    if (!status.ok()) return status;
    const BlockFormat& format = GetBlockFormat(rows_.tensor.type);
    for (int64_t row = range.begin; row < range.end; ++row) {
      DecodeBlocks(rows_.tensor.type,
                   stored_.data() + (StoredRow(rows_, row) - first) * matrix_.row_bytes,
                   matrix_.cols / format.values_per_block, values_.data());
      const int64_t bad = ConvertTo(values_.data(), matrix_.cols, out);
      if (bad < matrix_.cols) return NotFinite(row * matrix_.cols + bad, values_[bad]);
      out += matrix_.cols * static_cast<int64_t>(SizeOf(dtype_));
    }
    return absl::OkStatus();
  }

  // A bias of q or k: short, so it is read as a whole.
  absl::Status ReadInterleavedVector(uint8_t* out) {
    const BlockFormat& format = GetBlockFormat(rows_.tensor.type);
    stored_.resize(rows_.tensor.bytes);
    const absl::Status status =
        file_.ReadAt(rows_.tensor.offset, rows_.tensor.bytes, stored_.data());
    if (!status.ok()) return status;
    std::vector<float> in_file_order(matrix_.cols);
    DecodeBlocks(rows_.tensor.type, stored_.data(), matrix_.cols / format.values_per_block,
                 in_file_order.data());
    values_.resize(matrix_.cols);
    for (int64_t i = 0; i < matrix_.cols; ++i) values_[i] = in_file_order[StoredRow(rows_, i)];
    const int64_t bad = ConvertTo(values_.data(), matrix_.cols, out);
    return bad < matrix_.cols ? NotFinite(bad, values_[bad]) : absl::OkStatus();
  }

  int64_t ConvertTo(const float* values, int64_t count, void* out) const {
    if (dtype_ == DType::kF16) return Convert<F16>(values, count, out);
    if (dtype_ == DType::kBF16) return Convert<BF16>(values, count, out);
    return Convert<float>(values, count, out);
  }

  absl::Status NotFinite(int64_t index, float value) const {
    const std::string where =
        absl::StrCat(file_.path(), ": tensor ", QuoteName(name_), ", row ", index / matrix_.cols,
                     ", column ", index % matrix_.cols, ": ");
    if (!IsFinite(value))
      return absl::InvalidArgumentError(absl::StrCat(where, "the value ", value, " is not finite"));
    return absl::InvalidArgumentError(absl::StrCat(where, "the value ", value, " is too large for ",
                                                   std::string(Name(dtype_)), "; use f32"));
  }

  const ReadOnlyFile& file_;
  const GgufRows& rows_;
  const std::string& name_;
  const DType dtype_;
  const Matrix matrix_;
  std::vector<uint8_t> stored_;
  std::vector<float> values_;
};

}  // namespace

absl::Status ReadGgufRows(const ReadOnlyFile& file, const GgufRows& rows, const std::string& name,
                          RowRange range, DType dtype, void* out) {
  const int64_t num_rows = AsMatrix(rows).rows;
  if (range.begin < 0 || range.begin > range.end || range.end > num_rows) {
    return absl::OutOfRangeError(absl::StrCat(file.path(), ": tensor ", QuoteName(name), " has ",
                                              num_rows, " rows; rows ", range.begin, " to ",
                                              range.end, " were asked for"));
  }
  if (dtype != DType::kF32 && dtype != DType::kF16 && dtype != DType::kBF16) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", QuoteName(name),
                                                   " cannot be read as ", std::string(Name(dtype)),
                                                   "; use f32, f16 or bf16"));
  }
  return RowReader(file, rows, name, dtype).Read(range, out);
}

}  // namespace rankine
