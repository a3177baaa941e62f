// The flags of `rankine factorize`, for commands that read them from elsewhere.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/compress/factorize.h"

namespace rankine {

// The words after MODEL and OUT: {"--method", "svd-llm", "--keep", "0.8"}. kInvalidArgument: a flag
// or value that `rankine factorize` would refuse.
absl::StatusOr<FactorizeOptions> ParseFactorizeFlags(std::vector<std::string> words);

}  // namespace rankine
