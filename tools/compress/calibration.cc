#include "tools/compress/calibration.h"

#include <string>
#include <utility>

#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/linears.h"

namespace rankine {

absl::StatusOr<std::unique_ptr<Calibrator>> Calibrator::Create(
    const FactoredModel& model, std::vector<absl::Span<const int32_t>> windows) {
  const auto length = static_cast<int64_t>(windows.at(0).size());
  RK_ASSIGN_OR_RETURN(LayerPass pass, LayerPass::Create(model, std::move(windows)));
  std::unique_ptr<Calibrator> calibrator(new Calibrator(model, std::move(pass), length));
  calibrator->hidden_ = calibrator->pass_.Embed();
  return calibrator;
}

absl::Status Calibrator::RunLayer(ActivationObserver* observer, const LayerProgress& progress) {
  RK_CHECK(next_layer_ < model_.shape().num_layers);
  const int64_t passes = pass_.num_passes();
  for (int64_t index = 0; index < passes; ++index) {
    pass_.Run(next_layer_, index, observer, /*keep=*/true, &hidden_);
    RK_RETURN_IF_ERROR(progress(static_cast<double>(index + 1) / static_cast<double>(passes)));
  }
  ++next_layer_;
  return absl::OkStatus();
}

absl::Status Calibrator::Skip(const LayerProgress& progress) { return RunLayer(nullptr, progress); }

absl::StatusOr<LayerStatistics> Calibrator::Observe(const LayerProgress& progress) {
  StatisticsObserver observer = MakeStatisticsObserver(model_, next_layer_, window_tokens_);
  RK_RETURN_IF_ERROR(RunLayer(&observer, progress));
  return observer.Finish();
}

StatisticsObserver MakeStatisticsObserver(const FactoredModel& model, int64_t layer,
                                          int64_t window_tokens) {
  std::vector<std::vector<std::string>> groups;
  std::vector<int64_t> features;
  for (const LinearGroup* group : model.groups()) {
    if (LayerOf(group->name()) != layer) continue;
    std::vector<std::string>& linears = groups.emplace_back();
    for (const FactoredMatrix& m : group->matrices()) linears.push_back(m.name);
    features.push_back(group->in_features());
  }
  return StatisticsObserver(groups, features, model.device().ops(), model.device().stream(),
                            MomentAccumulator::kGroupSequences * window_tokens);
}

}  // namespace rankine
