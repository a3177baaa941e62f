#include "models/checkpoint_source.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace rankine {

absl::Status CheckpointSource::ReadRows(const std::string& tensor, int64_t row_begin,
                                        int64_t row_end, int64_t cols, DType dtype,
                                        void* out) const {
  const TensorInfo* info = checkpoint_.Find(tensor);
  if (info == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", absl::CHexEscape(tensor), " is missing"));
  }
  int64_t stored = 1;  // values in a row: those of a vector, or of all dimensions but the first
  for (size_t i = info->shape.size() > 1 ? 1 : 0; i < info->shape.size(); ++i)
    stored *= info->shape[i];
  if (stored != cols) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", absl::CHexEscape(tensor),
                                                   " has rows of ", stored,
                                                   " values, but the model takes ", cols));
  }
  return checkpoint_.ReadRows(*info, row_begin, row_end, dtype, out);
}

absl::Status CheckpointSource::ReadBlockRows(const Core& core, int64_t row_begin, int64_t row_end,
                                             int64_t cols, BlockRowsBuffer* out) const {
  return checkpoint_.ReadBlockRows(core, row_begin, row_end, cols, out);
}

absl::StatusOr<int64_t> CheckpointSource::NumRows(const std::string& tensor) const {
  const TensorInfo* info = checkpoint_.Find(tensor);
  if (info == nullptr || info->shape.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", absl::CHexEscape(tensor), " is missing"));
  }
  return info->shape[0];
}

}  // namespace rankine
