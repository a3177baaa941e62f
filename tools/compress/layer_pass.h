// Layers of a model over all windows of a text, one layer at a time: the hidden states of all
// windows are kept between layers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "models/loader.h"
#include "tools/eval/window_runner.h"

namespace rankine {

// The inputs of a layer: [windows x window_tokens, hidden_size].
struct HiddenStates {
  std::vector<float> values;
  int64_t hidden_size = 0;

  float* Row(int64_t row) { return values.data() + row * hidden_size; }
};

// Owns the activations of a pass. One thread; the model and the tokens outlive it.
class LayerPass {
 public:
  // `windows` are of equal length; max_logit_rows: kLossRows where Losses is called. Errors as
  // WindowRunner::Create; kInvalidArgument for a token outside the vocabulary.
  static absl::StatusOr<LayerPass> Create(const FactoredModel& model,
                                          std::vector<absl::Span<const int32_t>> windows,
                                          int64_t max_logit_rows = 1);

  // The inputs of layer 0.
  HiddenStates Embed();

  int64_t num_passes() const;
  // Runs `layer` on the rows of pass `index`: from `hidden`, and back into it when `keep`.
  void Run(int64_t layer, int64_t index, ActivationObserver* observer, bool keep,
           HiddenStates* hidden);
  // The mean next-token loss (WindowLosses) of each window of pass `index`, from what the last
  // layer left in `hidden`.
  std::vector<double> Losses(int64_t index, HiddenStates* hidden);

 private:
  LayerPass(const FactoredModel& model, std::vector<absl::Span<const int32_t>> windows,
            WindowRunner runner, int64_t windows_per_pass);
  absl::Span<const absl::Span<const int32_t>> WindowsOf(int64_t index) const;
  void Begin(int64_t index);
  void CopyRows(int64_t index, bool load, HiddenStates* hidden);

  const FactoredModel* model_;
  std::vector<absl::Span<const int32_t>> windows_;
  WindowRunner runner_;
  int64_t windows_per_pass_;
};

}  // namespace rankine
