// Files of one JSON object a line.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/checkpoint/json.h"

namespace rankine {

// The objects, empty lines left out; messages of each begin with "file:line". kInvalidArgument: a
// line that is no JSON object, or a file without any.
absl::StatusOr<std::vector<JsonValue>> ReadJsonLines(const std::string& path);

}  // namespace rankine
