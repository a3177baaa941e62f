#include "tools/compress/search/validation_loss.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/math.h"
#include "models/status_macros.h"
#include "tools/compress/loaded_layer.h"
#include "tools/eval/window_losses.h"

namespace rankine {

ValidationLoss::ValidationLoss(const Checkpoint& source, std::vector<std::vector<int32_t>> windows)
    : source_(source), windows_(std::move(windows)) {}

absl::StatusOr<std::unique_ptr<ValidationLoss>> ValidationLoss::Create(
    const Checkpoint& source, std::vector<std::vector<int32_t>> windows, const Options& options,
    const LayerProgress& progress) {
  if (windows.empty() || windows[0].size() < 2) {
    return absl::InvalidArgumentError(
        "a validation text needs windows of at least two tokens: the first predicts the second");
  }
  std::unique_ptr<ValidationLoss> loss(new ValidationLoss(source, std::move(windows)));
  RK_RETURN_IF_ERROR(loss->Load(options));
  RK_RETURN_IF_ERROR(loss->RunUnchanged(progress));
  return loss;
}

absl::Status ValidationLoss::Load(const Options& options) {
  RK_ASSIGN_OR_RETURN(device_, MakeCpuDevice({.num_threads = options.threads}));
  RK_ASSIGN_OR_RETURN(model_, LoadModel(source_, *device_, {.compute = DType::kF32}));
  if (model_->shape().is_encoder) {
    return absl::InvalidArgumentError(
        "the model is an encoder, which predicts no next token: what it loses on a validation "
        "text is not defined");
  }
  RK_ASSIGN_OR_RETURN(pass_,
                      LayerPass::Create(*model_, {windows_.begin(), windows_.end()}, kLossRows));
  const auto tokens = static_cast<int64_t>(windows_.size() * windows_[0].size());
  const int64_t all =
      num_layers() * tokens * model_->shape().hidden_size * static_cast<int64_t>(sizeof(float));
  stride_ = std::clamp<int64_t>(CeilDiv(all, std::max<int64_t>(options.kept_bytes, 1)), 1,
                                std::max<int64_t>(num_layers(), 1));
  return absl::OkStatus();
}

absl::Status ValidationLoss::RunUnchanged(const LayerProgress& progress) {
  HiddenStates hidden = pass_->Embed();
  for (int64_t layer = 0; layer < num_layers(); ++layer) {
    if (layer % stride_ == 0) kept_.push_back(hidden);
    RK_RETURN_IF_ERROR(RunLayer(*pass_, layer, progress, &hidden));
  }
  RK_ASSIGN_OR_RETURN(unchanged_, LossesOf(&hidden));
  return absl::OkStatus();
}

absl::Status ValidationLoss::RunLayer(LayerPass& pass, int64_t layer, const LayerProgress& progress,
                                      HiddenStates* hidden) {
  for (int64_t index = 0; index < pass.num_passes(); ++index) {
    pass.Run(layer, index, nullptr, /*keep=*/true, hidden);
    RK_RETURN_IF_ERROR(progress(0));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<double>> ValidationLoss::LossesOf(HiddenStates* hidden) {
  std::vector<double> losses;
  for (int64_t index = 0; index < pass_->num_passes(); ++index) {
    for (const double loss : pass_->Losses(index, hidden)) {
      if (!std::isfinite(loss)) {
        return absl::DataLossError(absl::StrCat("logits of validation window ", losses.size(),
                                                " are not finite: the model is damaged"));
      }
      losses.push_back(loss);
    }
  }
  return losses;
}

absl::StatusOr<std::vector<double>> ValidationLoss::Evaluate(const std::set<int64_t>& changed,
                                                             const PartOfLayer& part,
                                                             const LayerProgress& progress) {
  if (changed.empty()) return unchanged_;
  const int64_t first = *changed.begin() / stride_ * stride_;
  HiddenStates hidden = kept_[static_cast<size_t>(first / stride_)];
  for (int64_t layer = first; layer < num_layers(); ++layer) {
    if (changed.count(layer) == 0) {
      RK_RETURN_IF_ERROR(RunLayer(*pass_, layer, progress, &hidden));
      continue;
    }
    RK_ASSIGN_OR_RETURN(const LayerPart factored, part(layer));
    RK_ASSIGN_OR_RETURN(
        const std::unique_ptr<LoadedLayer> loaded,
        LoadedLayer::Create(source_, layer, factored,
                            {.windows = static_cast<int64_t>(windows_.size()),
                             .window_tokens = static_cast<int64_t>(windows_[0].size()),
                             .device = device_.get()}));
    RK_RETURN_IF_ERROR(RunLayer(loaded->pass(), 0, progress, &hidden));
  }
  return LossesOf(&hidden);
}

}  // namespace rankine
