// What an architecture brings to the registry (registry.cc): everything that depends on which model
// it is, and is not its forward pass, goes through this table.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/dtype.h"
#include "models/checkpoint/json.h"
#include "models/config.h"
#include "models/layout.h"
#include "models/loader.h"

namespace rankine {

struct Architecture {
  const char* name;  // model_type of config.json
  // Reads the architecture's own keys; errors name the file and the key.
  absl::StatusOr<ModelConfig> (*parse_config)(const JsonValue& root);
  // What only this architecture demands of the values.
  absl::Status (*validate_config)(const ModelConfig& config, const std::string& source);
  // config.json that transformers loads; `dtype` is that of the matrices.
  std::string (*serialize_config)(const ModelConfig& config, DType dtype);
  ModelLayout (*layout)(const ModelConfig& config);
  // The layout's name of a tensor as a Hugging Face folder may spell it; empty = no part of the
  // model (a training head, a buffer), to be passed over. Null = names are the layout's.
  std::string (*canonical_name)(const std::string& stored);
  absl::StatusOr<std::unique_ptr<FactoredModel>> (*load)(const Checkpoint& checkpoint,
                                                         Device& device,
                                                         const LoadOptions& options);
};

// Null when there is none of that name.
const Architecture* FindArchitecture(const std::string& name);
// "llama, bert"
std::string SupportedArchitectures();

}  // namespace rankine
