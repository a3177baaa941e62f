// One layer of a model as a model of its own: what calibration behind a factored prefix runs, so
// that only one layer is in memory, whatever the size of the model. The embedding is cut to a few
// rows: hidden states come from outside.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"
#include "tools/compress/stored_tensor.h"

namespace rankine {

// Layer `layer` of `source`, called layer 0, with some linears replaced by what a method made of
// them. Thread-safe; refers to the source, which outlives it.
class LayerCheckpoint : public Checkpoint {
 public:
  // The rows of the embedding and the head that are left.
  static constexpr int64_t kVocabulary = 16;

  // `matrices` replace linears of the same name; `tensors` are those that they bring.
  LayerCheckpoint(const Checkpoint& source, int64_t layer,
                  const std::vector<FactoredMatrix>& matrices, std::vector<StoredTensor> tensors);

  const ModelConfig& config() const override { return config_; }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  const TensorInfo* Find(std::string_view name) const override;
  absl::Status ReadRows(const TensorInfo& tensor, int64_t row_begin, int64_t row_end, DType dtype,
                        void* out) const override;
  absl::Status ReadBlockRows(const Core& core, int64_t row_begin, int64_t row_end, int64_t cols,
                             BlockRowsBuffer* out) const override;
  absl::Status ReadRaw(const TensorInfo& tensor, int64_t begin, int64_t size,
                       void* out) const override;
  const std::vector<FactoredMatrix>& factored() const override { return factored_; }
  const std::string& folder() const override { return source_.folder(); }
  const GgufVocabulary* gguf_vocabulary() const override { return source_.gguf_vocabulary(); }

 private:
  void AddSourceTensors();
  void AddSourceMatrices(const std::vector<FactoredMatrix>& replaced);
  // A name of the layer under its new number; other names stay.
  std::string Renamed(const std::string& name) const;
  const StoredTensor* FindStored(const std::string& name) const;

  const Checkpoint& source_;
  const int64_t layer_;
  ModelConfig config_;
  std::vector<StoredTensor> stored_;
  std::vector<FactoredMatrix> factored_;
  // Tensors keep the names that they have in the source; found under those and the new ones.
  std::vector<TensorInfo> infos_;
  std::map<std::string, size_t, std::less<>> by_name_;
};

}  // namespace rankine
