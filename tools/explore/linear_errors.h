// How far the linears of a model in any form are from the dense ones.
#pragma once

#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"
#include "tools/compress/statistics_folder.h"
#include "tools/explore/point.h"

namespace rankine {

struct LinearErrorsArgs {
  const Checkpoint* dense = nullptr;
  const Checkpoint* model = nullptr;
  const StatisticsFolder* statistics = nullptr;  // null: no weighted errors
  int threads = 0;
  std::function<absl::Status(double fraction)> progress;  // an error from it ends the work
};

// Both errors of every linear of the dense model's numbered layers, as FactorizeReport has them.
// kFailedPrecondition: the model lacks one of them, or has another shape (it is of another model).
absl::StatusOr<std::vector<LinearError>> LinearErrorsOf(const LinearErrorsArgs& args);

}  // namespace rankine
