#include "tools/compress/statistics_provider.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"

namespace rankine {

absl::Status StatisticsProvider::StartCalibrator() {
  RK_ASSIGN_OR_RETURN(device_, MakeCpuDevice({.num_threads = options_.threads}));
  // Activations in f32: the moments must not carry the noise of a bf16 product.
  RK_ASSIGN_OR_RETURN(model_, LoadModel(*options_.checkpoint, *device_, {.compute = DType::kF32}));
  std::vector<absl::Span<const int32_t>> windows(options_.windows.begin(), options_.windows.end());
  RK_ASSIGN_OR_RETURN(calibrator_, Calibrator::Create(*model_, std::move(windows)));
  return absl::OkStatus();
}

absl::StatusOr<LayerStatistics> StatisticsProvider::Compute(int64_t layer,
                                                            const LayerProgress& progress) {
  // A second round finds a file damaged that the first has left.
  const bool is_behind = calibrator_ != nullptr && calibrator_->next_layer() > layer;
  if (calibrator_ == nullptr || is_behind) RK_RETURN_IF_ERROR(StartCalibrator());
  // Layers that an interrupted run has finished: only their outputs are needed.
  while (calibrator_->next_layer() < layer) {
    RK_RETURN_IF_ERROR(calibrator_->Skip([&](double) { return progress(0); }));
  }
  return calibrator_->Observe(progress);
}

absl::StatusOr<LayerStatistics> StatisticsProvider::Get(int64_t layer,
                                                        const LayerProgress& progress) {
  if (!options_.folder) return Compute(layer, progress);
  auto stored = options_.folder->Read(layer);
  if (stored.ok() || absl::IsFailedPrecondition(stored.status())) return stored;
  if (options_.windows.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(stored.status().message(),
                     ": the statistics are not complete; repeat the same rankine calibrate"));
  }
  // A missing or damaged file is made again.
  RK_ASSIGN_OR_RETURN(LayerStatistics statistics, Compute(layer, progress));
  RK_RETURN_IF_ERROR(options_.folder->Write(layer, statistics));
  return statistics;
}

}  // namespace rankine
