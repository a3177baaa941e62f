// From a point's recipe to its model folder, and what making it says about it.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"
#include "tools/compress/calibration_text.h"
#include "tools/compress/progress.h"
#include "tools/compress/statistics_folder.h"
#include "tools/explore/cache.h"
#include "tools/explore/point.h"

namespace rankine {

class PointMaker {
 public:
  struct Options {
    const Checkpoint* dense = nullptr;
    std::string dense_path;
    std::string models_folder;  // where folders are made
    const PointCache* cache = nullptr;
    // What points share; a recipe that names a text or statistics of its own keeps to those.
    CalibrationOptions calibration;
    std::optional<StatisticsFolder> statistics;
    std::string statistics_path;  // of the same
    int threads = 0;
  };
  explicit PointMaker(Options options) : options_(std::move(options)) {}

  // Makes the model of `spec` and fills size, errors and parameters kept of the result; texts and
  // speed stay empty. What an interrupted run has made, or begun, is used. Returns the path of the
  // model. kCancelled: `progress` said so; kInvalidArgument and others: the point cannot be made.
  absl::StatusOr<std::string> Make(const PointSpec& spec, const std::string& key,
                                   const ProgressFn& progress, PointResult* result) const;
  // Once the point is measured: forgets what Make has left, and deletes the folder.
  absl::Status CleanUp(const PointSpec& spec, const std::string& key, bool keep_model) const;

 private:
  std::string FolderOf(const PointSpec& spec, const std::string& key) const;
  FactorizeOptions OptionsOf(const PointSpec& spec) const;
  absl::Status Factor(const PointSpec& spec, const std::string& folder, const ProgressFn& progress,
                      PointResult* result) const;
  absl::Status Encode(const PointSpec& spec, const std::string& folder, PointResult* result) const;
  absl::Status AddErrors(const Checkpoint& model, const ProgressFn& progress,
                         PointResult* result) const;
  absl::Status AddReport(const FactorizeReport& report, PointResult* result) const;

  Options options_;
};

}  // namespace rankine
