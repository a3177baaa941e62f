// Time of a matrix by the planner's choice and by its other candidates, beside the prediction.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/plan/cell.h"
#include "runtime/device/device.h"
#include "runtime/factor/device_profile.h"

namespace rankine {

struct MeasureOptions {
  int rounds = 5;
  int max_candidates = 6;       // those with the best predictions, the choice among them
  double round_seconds = 0.02;  // of each candidate, at least
};

struct CandidateTime {
  std::string expression;
  double predicted_microseconds = 0;
  double measured_microseconds = 0;  // median of the rounds
};

struct CellResult {
  const Cell* cell = nullptr;
  std::vector<CandidateTime> candidates;  // the planner's choice first
  int64_t weight_bytes = 0;               // of the choice

  const CandidateTime& choice() const { return candidates[0]; }
  double error() const;          // |predicted - measured| / measured of the choice
  double ratio_to_best() const;  // measured: the choice over the best, at least 1
};

// All cells are of one matrix and differ in tokens. Weights are read from memory, as in a model:
// copies of the matrix that together exceed the caches take turns. Candidates are interleaved.
absl::StatusOr<std::vector<CellResult>> MeasureMatrix(Device& device,
                                                      const std::vector<const Cell*>& cells,
                                                      const DeviceProfile& profile,
                                                      const MeasureOptions& options);

}  // namespace rankine
