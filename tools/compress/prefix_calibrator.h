// Statistics behind a factored prefix: the calibration text runs through the layers as they are
// factored, so that each linear is fitted to the inputs that it will really get, and beside it
// through the dense layers, whose inputs are what its outputs should be of.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"
#include "runtime/device/device.h"
#include "tools/compress/calibration.h"
#include "tools/compress/layer_part.h"
#include "tools/compress/layer_pass.h"
#include "tools/compress/loaded_layer.h"

namespace rankine {

// Holds two sets of hidden states and one layer of the model at a time; the whole model only while
// it embeds the text. One thread.
class PrefixCalibrator {
 public:
  // `windows` of equal length; copied. The checkpoint outlives it.
  static absl::StatusOr<std::unique_ptr<PrefixCalibrator>> Create(
      const Checkpoint& source, std::vector<std::vector<int32_t>> windows, int threads);

  ~PrefixCalibrator();
  int64_t next_layer() const { return next_layer_; }

  // Statistics of all groups of the next layer, its own weights being the dense ones: what a linear
  // reads when everything before its layer is factored, but none of its siblings. `cross` included.
  // The dense hidden states move on to the layer after: once a layer.
  absl::StatusOr<LayerStatistics> Observe(const LayerProgress& progress);
  // The inputs of the layer after, behind the next layer with the linears in `factored` replaced.
  absl::Status Advance(const LayerPart& factored, const LayerProgress& progress);

 private:
  PrefixCalibrator(const Checkpoint& source, std::vector<std::vector<int32_t>> windows);
  absl::StatusOr<std::unique_ptr<LoadedLayer>> Load(const LayerPart& factored);
  absl::Status MoveDense(const LayerProgress& progress);

  const Checkpoint& source_;
  std::vector<std::vector<int32_t>> windows_;
  std::unique_ptr<Device> device_;
  int64_t next_layer_ = 0;
  bool dense_has_moved_ = false;
  HiddenStates dense_hidden_, prefix_hidden_;
};

}  // namespace rankine
