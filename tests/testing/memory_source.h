// Tensors in memory as a source of cores.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "runtime/factor/tensor_source.h"

namespace rankine {

class MemorySource : public TensorSource {
 public:
  // Random values of standard deviation 1 / sqrt(fan_in) (default: cols), exact in bf16, so that
  // what is tested is the product and not the rounding of the weights.
  void AddRandom(const std::string& name, int64_t rows, int64_t cols, uint32_t seed,
                 double deviation = 0);
  void Add(const std::string& name, int64_t rows, int64_t cols, std::vector<float> values);
  void AddIndices(const std::string& name, std::vector<int32_t> indices);
  // All rows of a block-encoded core, found by its first tensor.
  void AddBlocks(const std::string& name, BlockRowsBuffer rows);
  void Set(const std::string& name, int64_t index, float value);
  const std::vector<float>& at(const std::string& name) const { return tensors_.at(name).values; }
  const std::vector<int32_t>& indices(const std::string& name) const { return indices_.at(name); }
  const BlockRowsBuffer& blocks(const std::string& name) const { return blocks_.at(name); }

  absl::Status ReadRows(const std::string& tensor, int64_t begin, int64_t end, int64_t cols,
                        DType dtype, void* out) const override;
  absl::Status ReadBlockRows(const Core& core, int64_t begin, int64_t end, int64_t cols,
                             BlockRowsBuffer* out) const override;
  absl::StatusOr<int64_t> NumRows(const std::string& tensor) const override;

 private:
  struct Tensor {
    int64_t rows = 0, cols = 0;
    std::vector<float> values;
  };
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, std::vector<int32_t>> indices_;
  std::map<std::string, BlockRowsBuffer> blocks_;
};

}  // namespace rankine
