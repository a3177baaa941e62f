// Measured sensitivities of linears, from a file: what the model's loss becomes with one linear
// compressed.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace rankine {

struct Sensitivity {
  std::string linear;
  double ratio = 0;  // share of the linear that is kept
  double loss = 0;   // nats, of the model with nothing else changed
};

// A JSON array of {"linear", "ratio", "loss"}, or an object with such an array under "linears",
// "entries" or "sensitivity". kDataLoss or kInvalidArgument names the file and what is wrong.
absl::StatusOr<std::vector<Sensitivity>> ReadSensitivityFile(const std::string& path);

}  // namespace rankine
