// Sizes of well-known models, for random ones of the same shape.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "models/config.h"

namespace rankine {

struct NamedShape {
  ModelConfig config;
  // How it differs from the model of that name; empty = not at all.
  std::string note;
};

// llama-2-7b, llama-3-8b, starcoder-15b or smollm2-135m. `layers` 0 = as many as the model has.
absl::StatusOr<NamedShape> FindShape(const std::string& name, int64_t layers = 0);

}  // namespace rankine
