// Does a set of tensors make up the model that the config describes?
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "models/checkpoint/checkpoint.h"
#include "models/checkpoint/validate.h"

namespace rankine {

// Every linear layer is there once, dense (`name`.weight) or as an entry of `factored`; vectors,
// embedding and biases too; shapes and float types are right; nothing is left over but a short list
// of known harmless tensors. `source` begins the messages; they name the first tensor at fault.
absl::Status CheckModelTensors(const ModelConfig& config, const std::vector<TensorInfo>& tensors,
                               const TensorLookup& lookup,
                               const std::vector<FactoredMatrix>& factored,
                               const std::string& source);

}  // namespace rankine
