// A factorisation's side of a search: from its options to the loss of ranks, and to the report.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/compress/allocation/allocation.h"
#include "tools/compress/calibration_text.h"
#include "tools/compress/factorize.h"
#include "tools/compress/layer_factorizer.h"
#include "tools/compress/search/rank_losses.h"

namespace rankine {

// The options' validation text. kInvalidArgument as ReadCalibrationText, and when it is the very
// text that calibrates.
absl::StatusOr<CalibrationText> ReadValidationText(const Checkpoint& checkpoint,
                                                   const FactorizeOptions& options,
                                                   const std::string& calibration_digest);

struct ModelSearchArgs {
  const FactorizeOptions* options = nullptr;
  const FactorJob* job = nullptr;
  const std::vector<LinearInfo>* linears = nullptr;  // those selected
  CalibrationText text;                              // of the validation
  std::string model_digest, model_name;
  // Names and values that decide the factors, but for the budget.
  std::vector<std::pair<std::string, std::string>> made_by;
  std::string work_folder;
  // Everything that is known about some linears of a layer, but for budgets.
  std::function<absl::StatusOr<LayerPart>(int64_t layer, const Ranks& ranks)> factor;
  std::function<absl::StatusOr<LayerStatistics>(int64_t layer)> statistics;  // null = none
  std::function<absl::Status(const std::string& what)> progress;
};

// Errors of the file of measured points.
absl::StatusOr<std::unique_ptr<RankLosses>> StartModelSearch(ModelSearchArgs args);

// After the policy has decided between the linears.
absl::StatusOr<SearchReport> ReportOfSearch(const Allocation& allocation,
                                            const std::vector<LinearInfo>& linears,
                                            RankLosses* losses);

}  // namespace rankine
