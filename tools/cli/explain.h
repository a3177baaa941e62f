// How a model's linears will be executed: the plan of each group at every token count, with
// predictions. Includes a third-party header: for .cc files.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"
#include "tools/cli/model_flags.h"

namespace rankine {

struct ExplainOptions {
  bool planning_profile = false;  // predict with the one that plans are chosen by
  bool measure = false;           // beside the predictions, the median of several runs from memory
};

// Opens the model at `path` and adds to `json` and `text`. Groups that run the same plan are
// measured once. Errors as those of opening the model.
absl::Status ExplainPlans(const std::string& path, const ModelFlags& flags,
                          const ExplainOptions& options, nlohmann::ordered_json* json,
                          std::string* text);

}  // namespace rankine
