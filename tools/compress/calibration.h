// Runs calibration text through a model one layer at a time, so that each layer is run once, over
// all of the text, while only that layer's statistics are in memory.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "models/loader.h"
#include "tools/compress/layer_pass.h"
#include "tools/compress/statistics.h"

namespace rankine {

// Called after each pass with the share of the layer that is done; an error stops the layer.
using LayerProgress = std::function<absl::Status(double fraction)>;

// Memory: tokens x hidden_size floats, a pass's activations, one layer's moments. One thread; the
// model and the tokens outlive it.
class Calibrator {
 public:
  // `windows` are of equal length. Errors as LayerPass::Create.
  static absl::StatusOr<std::unique_ptr<Calibrator>> Create(
      const FactoredModel& model, std::vector<absl::Span<const int32_t>> windows);

  // The layer whose inputs are held, from 0.
  int64_t next_layer() const { return next_layer_; }

  // Runs the next layer over all windows and returns what its groups saw.
  // After an error the calibrator is of no more use.
  absl::StatusOr<LayerStatistics> Observe(const LayerProgress& progress);
  // Runs the next layer without looking.
  absl::Status Skip(const LayerProgress& progress);

 private:
  Calibrator(const FactoredModel& model, LayerPass pass, int64_t window_tokens)
      : model_(model), pass_(std::move(pass)), window_tokens_(window_tokens) {}
  absl::Status RunLayer(ActivationObserver* observer, const LayerProgress& progress);

  const FactoredModel& model_;
  LayerPass pass_;
  int64_t window_tokens_;
  int64_t next_layer_ = 0;
  HiddenStates hidden_;
};

// An observer of a layer's groups; window_tokens: of a sequence.
StatisticsObserver MakeStatisticsObserver(const FactoredModel& model, int64_t layer,
                                          int64_t window_tokens);

}  // namespace rankine
