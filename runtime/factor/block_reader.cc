#include "runtime/factor/block_reader.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/base/math.h"

namespace rankine {
namespace {

template <class T>
void Append(const std::vector<T>& from, std::vector<T>* to) {
  to->insert(to->end(), from.begin(), from.end());
}

// Reads stored rows in any order; runs of neighbours at once.
absl::Status ReadStoredRows(const Core& core, const std::vector<int64_t>& rows, int64_t cols,
                            const TensorSource& source, BlockRowsBuffer* out) {
  for (size_t i = 0; i < rows.size();) {
    size_t end = i + 1;
    while (end < rows.size() && rows[end] == rows[end - 1] + 1) ++end;
    if (i == 0 && end == rows.size())
      return source.ReadBlockRows(core, rows[0], rows[0] + static_cast<int64_t>(end), cols, out);
    BlockRowsBuffer run;
    auto status =
        source.ReadBlockRows(core, rows[i], rows[i] + static_cast<int64_t>(end - i), cols, &run);
    if (!status.ok()) return status;
    Append(run.codes, &out->codes);
    if (i == 0 || core.encoding.kind != EncodingKind::kE8P) Append(run.scales, &out->scales);
    Append(run.offsets, &out->offsets);
    Append(run.scale_codes, &out->scale_codes);
    Append(run.offset_codes, &out->offset_codes);
    out->encoding = run.encoding;
    out->cols = run.cols;
    out->rows += run.rows;
    i = end;
  }
  return absl::OkStatus();
}

// Keeps entries [first, first + count) of each row of `width`.
template <class T>
void CropRows(int64_t width, int64_t first, int64_t count, std::vector<T>* data) {
  if (data->empty() || (first == 0 && count == width)) return;
  const auto rows = static_cast<int64_t>(data->size()) / width;
  std::vector<T> cropped;
  cropped.reserve(rows * count);
  for (int64_t row = 0; row < rows; ++row) {
    const auto begin = data->begin() + row * width + first;
    cropped.insert(cropped.end(), begin, begin + count);
  }
  *data = std::move(cropped);
}

// Keeps columns [offset, offset + extent); the offset is at the beginning of a group.
void CropColumns(int64_t offset, int64_t extent, BlockRowsBuffer* rows) {
  if (offset == 0 && extent == rows->cols) return;
  const Encoding& e = rows->encoding;
  const BlockRows before = rows->view();
  const int64_t groups = before.groups(), supers = before.supers();
  const int64_t width = before.code_bytes_per_row();
  const bool e8p = e.kind == EncodingKind::kE8P;
  // A group of a whole row has one scale, whichever part is taken.
  const int64_t first_group = e.group == 0 ? 0 : offset / e.group;
  const int64_t num_groups = e.group == 0 ? 1 : CeilDiv(extent, e.group);
  const int64_t first_super = offset / kSuperBlockColumns;
  const int64_t num_supers = CeilDiv(extent, kSuperBlockColumns);
  CropRows(width, e8p ? offset / 4 : offset, e8p ? extent / 4 : extent, &rows->codes);
  if (!e8p) {
    const bool two = e.HasTwoLevelScales();
    CropRows(two ? supers : groups, two ? first_super : first_group, two ? num_supers : num_groups,
             &rows->scales);
    const bool two_offsets = e.offset == OffsetKind::kTwoLevel;
    CropRows(two_offsets ? supers : groups, two_offsets ? first_super : first_group,
             two_offsets ? num_supers : num_groups, &rows->offsets);
    CropRows(groups, first_group, num_groups, &rows->scale_codes);
    CropRows(groups, first_group, num_groups, &rows->offset_codes);
  }
  rows->cols = extent;
}

class BlockReader : public CoreReader {
 public:
  BlockReader(const FactoredMatrix& matrix, const CorePart& part, const TensorSource& source)
      : core_(matrix.terms[part.term].cores[part.step.cores[0]]), part_(part), source_(source) {
    const TermLegs legs = LegsOf(matrix, matrix.terms[part.term]);
    // Rows of W and the summed legs but the last, as indices of the stored rows.
    std::vector<int> order = part.step.front_legs;
    order.insert(order.end(), part.step.back_legs.begin(), part.step.back_legs.end());
    order.insert(order.end(), part.step.summed_legs.begin(), part.step.summed_legs.end() - 1);
    stored_per_row_ = part.step.k / core_.legs.back().extent;
    const std::vector<int64_t> shape = core_.StoredShape();
    for (const int leg : order) {
      int64_t stride = 1;
      for (size_t i = core_.legs.size() - 1; i-- > 0;) {
        if (core_.legs[i].name == legs.names[leg]) {
          base_ += core_.legs[i].offset * stride;
          strides_.push_back(stride);
          extents_.push_back(core_.legs[i].extent);
        }
        stride *= shape[i];
      }
    }
  }

  absl::Status PackRows(const OpTable& ops, int64_t begin, int64_t end,
                        const PackedCore& core) const override {
    std::vector<int64_t> stored;
    for (int64_t i = begin * stored_per_row_; i < end * stored_per_row_; ++i)
      stored.push_back(StoredRow(i));
    const LegRange& last = core_.legs.back();
    BlockRowsBuffer rows;
    auto status = ReadStoredRows(core_, stored, core_.StoredShape().back(), source_, &rows);
    if (!status.ok()) return status;
    CropColumns(last.offset, last.extent, &rows);
    // Rows of whole groups that follow each other are one longer row.
    rows.rows /= stored_per_row_;
    rows.cols *= stored_per_row_;
    ops.pack_blocks({.source = rows.view(), .row_offset = part_.row_offset + begin, .core = core});
    return absl::OkStatus();
  }

 private:
  int64_t StoredRow(int64_t index) const {
    int64_t row = base_;
    for (size_t i = extents_.size(); i-- > 0;) {
      row += index % extents_[i] * strides_[i];
      index /= extents_[i];
    }
    return row;
  }

  const Core& core_;
  const CorePart part_;
  const TensorSource& source_;
  int64_t base_ = 0, stored_per_row_ = 1;
  std::vector<int64_t> extents_, strides_;
};

}  // namespace

std::unique_ptr<CoreReader> MakeBlockReader(const FactoredMatrix& matrix, const CorePart& part,
                                            const TensorSource& source) {
  return std::make_unique<BlockReader>(matrix, part, source);
}

absl::Status DecodeSlab(const Core& core, int64_t begin, int64_t end, int64_t cols,
                        const TensorSource& source, float* out) {
  const int64_t last = core.StoredShape().back();
  const int64_t rows_per_row = cols / last;
  BlockRowsBuffer buffer;
  auto status = source.ReadBlockRows(core, begin * rows_per_row, end * rows_per_row, last, &buffer);
  if (!status.ok()) return status;
  const BlockRows rows = buffer.view();
  for (int64_t row = 0; row < rows.rows; ++row) DecodeBlockRow(rows, row, out + row * last);
  return absl::OkStatus();
}

}  // namespace rankine
