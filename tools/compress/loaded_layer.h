// One layer of a model in memory, some of its linears replaced, ready to run over hidden states.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"
#include "runtime/device/device.h"
#include "tools/compress/layer_part.h"
#include "tools/compress/layer_pass.h"

namespace rankine {

class LayerCheckpoint;

// Computes in f32. One thread; the source and the device outlive it.
class LoadedLayer {
 public:
  struct Options {
    int64_t windows = 0;  // of the hidden states that pass() runs over
    int64_t window_tokens = 0;
    Device* device = nullptr;
  };
  // Layer `layer` of `source` with the linears in `factored` replaced. Errors as LoadModel.
  static absl::StatusOr<std::unique_ptr<LoadedLayer>> Create(const Checkpoint& source,
                                                             int64_t layer,
                                                             const LayerPart& factored,
                                                             const Options& options);
  ~LoadedLayer();

  // It is layer 0 of this model; the vocabulary is cut, hidden states come from outside.
  const FactoredModel& model() const { return *model_; }
  LayerPass& pass() { return *pass_; }

 private:
  LoadedLayer();

  std::vector<int32_t> blank_window_;
  std::unique_ptr<LayerCheckpoint> checkpoint_;
  std::unique_ptr<FactoredModel> model_;
  std::optional<LayerPass> pass_;
};

}  // namespace rankine
