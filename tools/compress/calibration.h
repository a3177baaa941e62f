// Runs calibration text through a model one layer at a time: the hidden states of all windows are
// kept between layers, so that each layer is run once, over all of the text, while only that
// layer's statistics are in memory.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "models/loader.h"
#include "tools/compress/statistics.h"
#include "tools/eval/window_runner.h"

namespace rankine {

// Memory: tokens x hidden_size floats, a pass's activations, one layer's moments. One thread; the
// model and the tokens outlive it.
class Calibrator {
 public:
  // `windows` are of equal length. Errors as WindowRunner::Create; kInvalidArgument for a token
  // outside the vocabulary.
  static absl::StatusOr<std::unique_ptr<Calibrator>> Create(
      const FactoredModel& model, std::vector<absl::Span<const int32_t>> windows);

  // The layer whose inputs are held, from 0.
  int64_t next_layer() const { return next_layer_; }

  // Called after each pass with the share of the layer that is done; an error stops the layer.
  using LayerProgress = std::function<absl::Status(double fraction)>;

  // Runs the next layer over all windows and returns what its groups saw.
  // After an error the calibrator is of no more use.
  absl::StatusOr<LayerStatistics> Observe(const LayerProgress& progress);
  // Runs the next layer without looking.
  absl::Status Skip(const LayerProgress& progress);

 private:
  Calibrator(const FactoredModel& model, std::vector<absl::Span<const int32_t>> windows,
             WindowRunner runner, int64_t windows_per_pass);
  absl::Status RunLayer(ActivationObserver* observer, const LayerProgress& progress);
  void Load(int64_t first_window);
  void Save(int64_t first_window);

  const FactoredModel& model_;
  std::vector<absl::Span<const int32_t>> windows_;
  WindowRunner runner_;
  int64_t windows_per_pass_;
  int64_t next_layer_ = 0;
  std::vector<float> hidden_;  // [windows x window_tokens, hidden_size]
};

}  // namespace rankine
