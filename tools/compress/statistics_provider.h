// Where factorisation gets a layer's statistics from: a folder that earlier runs filled, or the
// calibration text run through the model, which is loaded only then.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/compress/calibration.h"
#include "tools/compress/statistics_folder.h"

namespace rankine {

class StatisticsProvider {
 public:
  struct Options {
    const Checkpoint* checkpoint = nullptr;
    std::vector<std::vector<int32_t>> windows;  // of equal length; empty = the folder has it all
    std::optional<StatisticsFolder> folder;
    int threads = 0;
  };
  explicit StatisticsProvider(Options options) : options_(std::move(options)) {}

  // Statistics of `layer`; cheapest in rising order. Those computed are left in the folder.
  // kFailedPrecondition when the folder is another's, or lacks the layer and there is no text to
  // compute it from.
  absl::StatusOr<LayerStatistics> Get(int64_t layer, const LayerProgress& progress);

 private:
  absl::Status StartCalibrator();
  absl::StatusOr<LayerStatistics> Compute(int64_t layer, const LayerProgress& progress);

  Options options_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<FactoredModel> model_;
  std::unique_ptr<Calibrator> calibrator_;
};

}  // namespace rankine
