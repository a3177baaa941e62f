// What a model loses on a validation text when some of its linears are replaced, cheaply: the
// hidden states of the text are kept before the layers of the unchanged model, so that only what
// comes behind the first changed layer runs again.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"
#include "runtime/device/device.h"
#include "tools/compress/calibration.h"
#include "tools/compress/layer_part.h"
#include "tools/compress/layer_pass.h"

namespace rankine {

// Holds the whole unchanged model, and hidden states of `kept_bytes` at most (beside one set of
// them that every run needs). Computes in f32; the figures do not depend on the number of threads
// and equal those of `rankine eval --compute f32` of a folder with these linears. One thread.
class ValidationLoss {
 public:
  struct Options {
    int threads = 0;  // 0 = the cores this process may run on
    // Where all layers' states take more, every second, third, .. layer's are kept.
    int64_t kept_bytes = int64_t{1} << 30;
  };
  // `windows` of equal length, at least two tokens; copied. The checkpoint outlives the object.
  // kInvalidArgument: an encoder, which predicts no next token; a token outside the vocabulary; a
  // window beyond the model's context. kDataLoss: logits that are not finite.
  static absl::StatusOr<std::unique_ptr<ValidationLoss>> Create(
      const Checkpoint& source, std::vector<std::vector<int32_t>> windows, const Options& options,
      const LayerProgress& progress);

  // Mean loss of each window (nats per token) of the model as it is.
  const std::vector<double>& unchanged() const { return unchanged_; }

  // What replaces linears of `layer`.
  using PartOfLayer = std::function<absl::StatusOr<LayerPart>(int64_t layer)>;
  // The same with the layers in `changed` replaced, each asked for once, in order. kDataLoss:
  // logits that are not finite.
  absl::StatusOr<std::vector<double>> Evaluate(const std::set<int64_t>& changed,
                                               const PartOfLayer& part,
                                               const LayerProgress& progress);

 private:
  ValidationLoss(const Checkpoint& source, std::vector<std::vector<int32_t>> windows);
  absl::Status Load(const Options& options);
  absl::Status RunUnchanged(const LayerProgress& progress);
  // Of `pass`, layer `layer`, over all windows of `hidden`.
  static absl::Status RunLayer(LayerPass& pass, int64_t layer, const LayerProgress& progress,
                               HiddenStates* hidden);
  absl::StatusOr<std::vector<double>> LossesOf(HiddenStates* hidden);
  int64_t num_layers() const { return model_->shape().num_layers; }

  const Checkpoint& source_;
  const std::vector<std::vector<int32_t>> windows_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<FactoredModel> model_;
  std::optional<LayerPass> pass_;
  int64_t stride_ = 1;              // layers between kept states
  std::vector<HiddenStates> kept_;  // the inputs of layers 0, stride_, 2 stride_, ..
  std::vector<double> unchanged_;
};

}  // namespace rankine
