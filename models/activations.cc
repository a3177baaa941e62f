#include "models/activations.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/api/quantized_rows.h"
#include "kernels/base/math.h"

namespace rankine {

int64_t PaddedColumns(int64_t columns) { return RoundUp(columns, kColumnPad); }

MatrixView PaddedView(void* data, DType dtype, int64_t rows, int64_t cols) {
  return {.data = data, .dtype = dtype, .rows = rows, .cols = cols, .stride = PaddedColumns(cols)};
}

MatrixView FirstRows(MatrixView view, int64_t rows) {
  view.rows = rows;
  return view;
}

MatrixView ColumnsOf(const MatrixView& base, int64_t column, int64_t cols) {
  MatrixView view = base;
  view.data = static_cast<float*>(base.data) + column;
  view.cols = cols;
  return view;
}

GroupInput GroupInputOf(const LinearGroup& group, int64_t rows, const GroupInputMemory& memory,
                        bool observed) {
  GroupInput input;
  if (group.needs_dense() || observed) {
    input.dense = PaddedView(memory.dense, group.needs_dense() ? group.compute() : DType::kF32,
                             rows, group.in_features());
  }
  if (group.needs_quantized()) {
    input.quantized = {.data = memory.quantized,
                       .dtype = DType::kI8,
                       .rows = rows,
                       .cols = group.in_features(),
                       .stride = QuantizedRowBytes(group.in_features())};
  }
  return input;
}

void* WorkspaceAllocator::Allocate(int64_t rows, int64_t columns) {
  if (!status_.ok()) return nullptr;
  int64_t bytes = 0;
  absl::StatusOr<Buffer> buffer = absl::ResourceExhaustedError("its size overflows");
  if (CheckedMul(rows, columns, &bytes) &&
      CheckedMul(std::max(bytes, kColumnPad), sizeof(float), &bytes)) {
    buffer = Buffer::Allocate(device_, bytes);
  }
  if (!buffer.ok()) {
    status_ = absl::Status(
        buffer.status().code(),
        absl::StrCat("the workspace for steps of ", limits_.max_tokens, " tokens and ",
                     limits_.max_logit_rows, " sequences: ", buffer.status().message()));
    return nullptr;
  }
  buffers_.push_back(*std::move(buffer));
  return buffers_.back().data();
}

void* WorkspaceAllocator::AllocateBytes(int64_t bytes) {
  return Allocate(1, CeilDiv(bytes, static_cast<int64_t>(sizeof(float))));
}

}  // namespace rankine
