// Tensors as they go to disk, before there is a disk: what a factorisation method makes, and a
// source that reads cores back from them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/base/dtype.h"
#include "runtime/factor/tensor_source.h"

namespace rankine {

struct StoredTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::string bytes;  // little endian, rows one after another
};

// Values of a float core, or of signs (kI8) and indices (kI32), rounded to `dtype`.
// kInvalidArgument names the tensor when a value is not finite, or does not fit.
absl::StatusOr<StoredTensor> StoreValues(std::string name, DType dtype, std::vector<int64_t> shape,
                                         absl::Span<const double> values);

// Reads what stands in the tensors, which outlive it. Thread-safe.
class StoredTensorSource : public TensorSource {
 public:
  explicit StoredTensorSource(absl::Span<const StoredTensor> tensors) : tensors_(tensors) {}
  absl::Status ReadRows(const std::string& tensor, int64_t row_begin, int64_t row_end, int64_t cols,
                        DType dtype, void* out) const override;
  absl::Status ReadBlockRows(const Core& core, int64_t row_begin, int64_t row_end, int64_t cols,
                             BlockRowsBuffer* out) const override;
  absl::StatusOr<int64_t> NumRows(const std::string& tensor) const override;

 private:
  absl::StatusOr<const StoredTensor*> Find(const std::string& name) const;

  absl::Span<const StoredTensor> tensors_;
};

}  // namespace rankine
