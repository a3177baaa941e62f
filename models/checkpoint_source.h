// A checkpoint as the source of cores for LinearGroup::Load.
#pragma once

#include "models/checkpoint/checkpoint.h"
#include "runtime/factor/tensor_source.h"

namespace rankine {

// Thread-safe. The checkpoint must outlive it.
class CheckpointSource : public TensorSource {
 public:
  explicit CheckpointSource(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}
  absl::Status ReadRows(const std::string& tensor, int64_t row_begin, int64_t row_end, int64_t cols,
                        DType dtype, void* out) const override;
  absl::Status ReadBlockRows(const Core& core, int64_t row_begin, int64_t row_end, int64_t cols,
                             BlockRowsBuffer* out) const override;
  absl::StatusOr<int64_t> NumRows(const std::string& tensor) const override;

 private:
  const Checkpoint& checkpoint_;
};

}  // namespace rankine
