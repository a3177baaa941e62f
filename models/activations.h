// Views of activations and the memory behind them: what the forward passes of all architectures
// share.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "kernels/base/tensor_view.h"
#include "runtime/device/device.h"
#include "runtime/factor/linear_group.h"
#include "runtime/model.h"

namespace rankine {

// Columns of a row with its pads.
int64_t PaddedColumns(int64_t columns);
// [rows, cols], rows padded.
MatrixView PaddedView(void* data, DType dtype, int64_t rows, int64_t cols);
MatrixView FirstRows(MatrixView view, int64_t rows);
// Columns [column, column + cols) of f32 rows.
MatrixView ColumnsOf(const MatrixView& base, int64_t column, int64_t cols);

// Where ops write what the next group reads: [rows, widest input] each.
struct GroupInputMemory {
  void* dense = nullptr;      // f32 or bf16
  void* quantized = nullptr;  // i8
};

// The input of a group in the forms that it, and an observer of dense inputs, need.
GroupInput GroupInputOf(const LinearGroup& group, int64_t rows, const GroupInputMemory& memory,
                        bool observed);

// Allocates a workspace's buffers; the first failure is kept and later calls return null, so that
// callers check once.
class WorkspaceAllocator {
 public:
  WorkspaceAllocator(Device& device, const ForwardLimits& limits, std::vector<Buffer>* buffers)
      : device_(device), limits_(limits), buffers_(*buffers) {}

  // Room for rows x columns floats.
  void* Allocate(int64_t rows, int64_t columns);
  void* AllocateBytes(int64_t bytes);
  const absl::Status& status() const { return status_; }

 private:
  Device& device_;
  const ForwardLimits& limits_;
  std::vector<Buffer>& buffers_;
  absl::Status status_;
};

}  // namespace rankine
