// Measured sensitivities of linears: what the model's loss becomes with one linear compressed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"

namespace rankine {

struct Sensitivity {
  std::string linear;
  int64_t rank = 0;     // the least at which it was measured
  double share = 0;     // parameters of the factors over those of the dense linear
  double increase = 0;  // of the loss over the model as it is, nats per token
};

// From the file that `rankine factorize --allocation sensitivity --search-file FILE` writes
// (measured_points.h): of every linear that was measured alone, by layer and name. `model_digest`
// is that of `dense`. kFailedPrecondition: the file is of another model. kInvalidArgument: it does
// not have the loss of the model as it is, or no linear was measured alone (as by `bayes`).
// kNotFound and kDataLoss as ReadMeasuredLosses.
absl::StatusOr<std::vector<Sensitivity>> ReadSensitivities(const std::string& path,
                                                           const Checkpoint& dense,
                                                           const std::string& model_digest);

}  // namespace rankine
