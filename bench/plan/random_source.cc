#include "bench/plan/random_source.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "models/checkpoint/float_convert.h"
#include "models/encode/block_storage.h"
#include "models/status_macros.h"

namespace rankine {

RandomSource::RandomSource(const RandomMatrix& matrix) {
  for (const RandomTensor& tensor : matrix.tensors) {
    std::vector<char> bytes(static_cast<size_t>(BytesOf(tensor.spec)));
    FillRandom(tensor, 0, BytesOf(tensor.spec), bytes.data());
    tensors_.emplace(tensor.spec.name, Stored{tensor.spec, std::move(bytes)});
  }
}

absl::StatusOr<const RandomSource::Stored*> RandomSource::Find(const std::string& tensor) const {
  const auto found = tensors_.find(tensor);
  if (found == tensors_.end()) {
    return absl::NotFoundError(absl::StrCat("tensor ", tensor, " is missing"));
  }
  return &found->second;
}

absl::Status RandomSource::ReadRows(const std::string& tensor, int64_t row_begin, int64_t row_end,
                                    int64_t cols, DType dtype, void* out) const {
  RK_ASSIGN_OR_RETURN(const Stored* stored, Find(tensor));
  const auto size = static_cast<int64_t>(SizeOf(stored->spec.dtype));
  if (row_end * cols * size > static_cast<int64_t>(stored->bytes.size())) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", tensor, " has no such rows"));
  }
  ConvertFloats(stored->spec.dtype, stored->bytes.data() + row_begin * cols * size, dtype, out,
                (row_end - row_begin) * cols);
  return absl::OkStatus();
}

absl::Status RandomSource::ReadBlockRows(const Core& core, int64_t row_begin, int64_t row_end,
                                         int64_t cols, BlockRowsBuffer* out) const {
  ResizeBlockRows(core.encoding, row_end - row_begin, cols, out);
  for (const BlockRole& role : BlockRoles(core.encoding, cols)) {
    RK_ASSIGN_OR_RETURN(const Stored* stored, Find(core.TensorOf(role.role)));
    const char* from = stored->bytes.data() + row_begin * role.row_bytes();
    RK_RETURN_IF_ERROR(LoadRole(reinterpret_cast<const uint8_t*>(from), role, row_begin, out));
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> RandomSource::NumRows(const std::string& tensor) const {
  RK_ASSIGN_OR_RETURN(const Stored* stored, Find(tensor));
  return stored->spec.shape[0];
}

}  // namespace rankine
