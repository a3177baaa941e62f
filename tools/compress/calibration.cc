#include "tools/compress/calibration.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "tools/compress/linears.h"

namespace rankine {
namespace {

// Tokens of a pass: where the products reach their full speed, and the chunk of the moments.
constexpr int64_t kPassTokens = MomentAccumulator::kMomentChunk;

}  // namespace

Calibrator::Calibrator(const FactoredModel& model, std::vector<absl::Span<const int32_t>> windows,
                       WindowRunner runner, int64_t windows_per_pass)
    : model_(model),
      windows_(std::move(windows)),
      runner_(std::move(runner)),
      windows_per_pass_(windows_per_pass),
      hidden_(windows_.size() * windows_[0].size() *
              static_cast<size_t>(model.shape().hidden_size)) {}

absl::StatusOr<std::unique_ptr<Calibrator>> Calibrator::Create(
    const FactoredModel& model, std::vector<absl::Span<const int32_t>> windows) {
  RK_CHECK(!windows.empty());
  for (const auto& window : windows) {
    RK_CHECK(window.size() == windows[0].size());
    for (int32_t id : window) {
      if (id >= 0 && id < model.shape().vocab_size) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("token ", id, " of the calibration text is outside the vocabulary of ",
                       model.shape().vocab_size));
    }
  }
  const auto length = static_cast<int64_t>(windows[0].size());
  const int64_t per_pass = std::max<int64_t>(1, kPassTokens / length);
  auto runner =
      WindowRunner::Create(model, {.window_tokens = length, .windows_per_pass = per_pass});
  if (!runner.ok()) return runner.status();
  std::unique_ptr<Calibrator> calibrator(
      new Calibrator(model, std::move(windows), *std::move(runner), per_pass));
  const auto count = static_cast<int64_t>(calibrator->windows_.size());
  for (int64_t first = 0; first < count; first += per_pass) {
    calibrator->runner_.Begin(absl::MakeConstSpan(calibrator->windows_).subspan(first, per_pass));
    calibrator->runner_.Embed();
    calibrator->Save(first);
  }
  return calibrator;
}

void Calibrator::Save(int64_t first_window) {
  const MatrixView hidden = runner_.hidden();
  const auto length = static_cast<int64_t>(windows_[0].size());
  for (int64_t row = 0; row < hidden.rows; ++row) {
    std::copy_n(hidden.Row<float>(row), hidden.cols,
                hidden_.data() + (first_window * length + row) * hidden.cols);
  }
}

void Calibrator::Load(int64_t first_window) {
  const MatrixView hidden = runner_.hidden();
  const auto length = static_cast<int64_t>(windows_[0].size());
  for (int64_t row = 0; row < hidden.rows; ++row) {
    std::copy_n(hidden_.data() + (first_window * length + row) * hidden.cols, hidden.cols,
                hidden.Row<float>(row));
  }
}

absl::Status Calibrator::RunLayer(ActivationObserver* observer, const LayerProgress& progress) {
  RK_CHECK(next_layer_ < model_.shape().num_layers);
  const auto count = static_cast<int64_t>(windows_.size());
  for (int64_t first = 0; first < count; first += windows_per_pass_) {
    runner_.Begin(absl::MakeConstSpan(windows_).subspan(first, windows_per_pass_));
    // Embed also prepares what belongs to a batch (the rotary tables); its hidden rows give way.
    runner_.Embed();
    Load(first);
    runner_.Layer(next_layer_, observer);
    Save(first);
    const int64_t done = std::min(count, first + windows_per_pass_);
    auto status = progress(static_cast<double>(done) / static_cast<double>(count));
    if (!status.ok()) return status;
  }
  ++next_layer_;
  return absl::OkStatus();
}

absl::Status Calibrator::Skip(const LayerProgress& progress) { return RunLayer(nullptr, progress); }

absl::StatusOr<LayerStatistics> Calibrator::Observe(const LayerProgress& progress) {
  std::vector<std::vector<std::string>> groups;
  std::vector<int64_t> features;
  for (const LinearGroup* group : model_.groups()) {
    if (LayerOf(group->name()) != next_layer_) continue;
    std::vector<std::string>& linears = groups.emplace_back();
    for (const FactoredMatrix& m : group->matrices()) linears.push_back(m.name);
    features.push_back(group->in_features());
  }
  StatisticsObserver observer(
      groups, features, model_.device().stream(),
      MomentAccumulator::kGroupSequences * static_cast<int64_t>(windows_[0].size()));
  if (auto status = RunLayer(&observer, progress); !status.ok()) return status;
  return observer.Finish();
}

}  // namespace rankine
