// `rankine calibrate`: the statistics of every layer of a model, for many factorisations.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "tools/compress/calibration_text.h"
#include "tools/compress/progress.h"

namespace rankine {

struct CalibrateReport {
  int64_t layers = 0;
  int64_t groups = 0;  // inputs that several linears may share
  int64_t tokens = 0;
  int64_t bytes = 0;  // of the folder
};

// Fills the folder `out` (statistics_folder.h). A run that was interrupted goes on when it is
// repeated. Memory: the model, the hidden states of the text, and one layer's statistics.
// kInvalidArgument: too little text, activations that are not finite. kFailedPrecondition: `out` is
// of another model or text. kCancelled: the callback said so.
absl::StatusOr<CalibrateReport> Calibrate(const std::string& model_path, const std::string& out,
                                          const CalibrationOptions& options, int threads = 0,
                                          const ProgressFn& progress = {});

}  // namespace rankine
