#include "runtime/factor/tensor_source.h"

#include "absl/strings/str_cat.h"

namespace rankine {

absl::Status TensorSource::ReadBlockRows(const Core& core, int64_t, int64_t, int64_t,
                                         BlockRowsBuffer*) const {
  return absl::UnimplementedError(
      absl::StrCat("core ", core.name, " is block-encoded, which this source does not hold"));
}

absl::StatusOr<int64_t> TensorSource::NumRows(const std::string& tensor) const {
  return absl::UnimplementedError(
      absl::StrCat("this source does not know the shape of tensor ", tensor));
}

}  // namespace rankine
