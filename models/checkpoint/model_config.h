// config.json and generation_config.json of a Hugging Face folder <-> ModelConfig.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/dtype.h"
#include "models/checkpoint/json.h"
#include "models/config.h"

namespace rankine {

// Reads config.json. Both spellings of RoPE are read: `rope_theta` with `rope_scaling`, and
// transformers 5's `rope_parameters`. Every value is checked (known architecture and activation,
// sizes positive, bounded and divisible); errors name the file
// and the key.
absl::StatusOr<ModelConfig> ParseModelConfig(const JsonValue& root);

// The checks of ParseModelConfig that are on values, for configs from elsewhere.
absl::Status ValidateModelConfig(const ModelConfig& config, const std::string& source);

// Adds the end-of-sequence ids of generation_config.json to those of `config`.
absl::Status MergeGenerationConfig(const JsonValue& root, ModelConfig* config);

// config.json that transformers 4 and 5 load; `dtype` is that of the matrices.
std::string SerializeModelConfig(const ModelConfig& config, DType dtype);
std::string SerializeGenerationConfig(const ModelConfig& config);

}  // namespace rankine
