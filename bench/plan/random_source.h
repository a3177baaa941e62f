// The tensors of a random matrix in memory, for LinearGroup::Load.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/factor/tensor_source.h"
#include "tools/synth/forms.h"

namespace rankine {

class RandomSource : public TensorSource {
 public:
  explicit RandomSource(const RandomMatrix& matrix);

  absl::Status ReadRows(const std::string& tensor, int64_t row_begin, int64_t row_end, int64_t cols,
                        DType dtype, void* out) const override;
  absl::Status ReadBlockRows(const Core& core, int64_t row_begin, int64_t row_end, int64_t cols,
                             BlockRowsBuffer* out) const override;
  absl::StatusOr<int64_t> NumRows(const std::string& tensor) const override;

 private:
  struct Stored {
    TensorSpec spec;
    std::vector<char> bytes;
  };
  absl::StatusOr<const Stored*> Find(const std::string& tensor) const;

  std::map<std::string, Stored> tensors_;
};

}  // namespace rankine
