#include "tools/compress/layer_pass.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "tools/compress/statistics.h"
#include "tools/eval/window_losses.h"

namespace rankine {
namespace {

// Tokens of a pass: where the products reach their full speed, and the chunk of the moments.
constexpr int64_t kChunkTokens = MomentAccumulator::kMomentChunk;

}  // namespace

LayerPass::LayerPass(const FactoredModel& model, std::vector<absl::Span<const int32_t>> windows,
                     WindowRunner runner, int64_t windows_per_pass)
    : model_(&model),
      windows_(std::move(windows)),
      runner_(std::move(runner)),
      windows_per_pass_(windows_per_pass) {}

absl::StatusOr<LayerPass> LayerPass::Create(const FactoredModel& model,
                                            std::vector<absl::Span<const int32_t>> windows,
                                            int64_t max_logit_rows) {
  RK_CHECK(!windows.empty());
  for (const auto& window : windows) {
    RK_CHECK(window.size() == windows[0].size());
    for (int32_t id : window) {
      if (id >= 0 && id < model.shape().vocab_size) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "token ", id, " of the text is outside the vocabulary of ", model.shape().vocab_size));
    }
  }
  const auto length = static_cast<int64_t>(windows[0].size());
  const int64_t per_pass = std::max<int64_t>(1, kChunkTokens / length);
  auto runner = WindowRunner::Create(
      model,
      {.window_tokens = length, .windows_per_pass = per_pass, .max_logit_rows = max_logit_rows});
  if (!runner.ok()) return runner.status();
  return LayerPass(model, std::move(windows), *std::move(runner), per_pass);
}

int64_t LayerPass::num_passes() const {
  return CeilDiv(static_cast<int64_t>(windows_.size()), windows_per_pass_);
}

absl::Span<const absl::Span<const int32_t>> LayerPass::WindowsOf(int64_t index) const {
  return absl::MakeConstSpan(windows_).subspan(index * windows_per_pass_, windows_per_pass_);
}

void LayerPass::Begin(int64_t index) {
  runner_.Begin(WindowsOf(index));
  // Embed also prepares what belongs to a batch (the rotary tables).
  runner_.Embed();
}

void LayerPass::CopyRows(int64_t index, bool load, HiddenStates* hidden) {
  const MatrixView view = runner_.hidden();
  const int64_t first = index * windows_per_pass_ * static_cast<int64_t>(windows_[0].size());
  for (int64_t row = 0; row < view.rows; ++row) {
    float* kept = hidden->Row(first + row);
    float* own = view.Row<float>(row);
    load ? std::copy_n(kept, view.cols, own) : std::copy_n(own, view.cols, kept);
  }
}

HiddenStates LayerPass::Embed() {
  HiddenStates hidden{.hidden_size = model_->shape().hidden_size};
  hidden.values.resize(windows_.size() * windows_[0].size() *
                       static_cast<size_t>(hidden.hidden_size));
  for (int64_t index = 0; index < num_passes(); ++index) {
    Begin(index);
    CopyRows(index, /*load=*/false, &hidden);
  }
  return hidden;
}

void LayerPass::Run(int64_t layer, int64_t index, ActivationObserver* observer, bool keep,
                    HiddenStates* hidden) {
  Begin(index);
  CopyRows(index, /*load=*/true, hidden);
  runner_.Layer(layer, observer);
  if (keep) CopyRows(index, /*load=*/false, hidden);
}

std::vector<double> LayerPass::Losses(int64_t index, HiddenStates* hidden) {
  Begin(index);
  CopyRows(index, /*load=*/true, hidden);
  return WindowLosses(*model_, WindowsOf(index), &runner_);
}

}  // namespace rankine
