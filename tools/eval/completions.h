// Completions of many prompts by the engine, several at a time.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/engine/engine.h"
#include "serving/prompt.h"
#include "tools/compress/progress.h"

namespace rankine {

// One completion of each prompt with the parameters of `params` but its prompt, in the order of the
// prompts. A completion does not depend on how many run together. The error names the prompt by its
// index.
absl::StatusOr<std::vector<std::string>> Complete(Engine& engine, const PromptCodec& codec,
                                                  const RequestLimits& limits,
                                                  const std::vector<std::string>& prompts,
                                                  GenerateParams params,
                                                  const ProgressFn& progress = {});

}  // namespace rankine
