// The Llama architecture (Touvron et al., arXiv 2302.13971; GQA as in 2307.09288): pre-norm blocks
// of grouped-query attention with rotary positions and a SwiGLU MLP, optional biases, tied or
// untied embedding.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/base/dtype.h"
#include "models/checkpoint/json.h"
#include "models/loader.h"

namespace rankine {

absl::StatusOr<ModelConfig> ParseLlamaConfig(const JsonValue& root);
absl::Status ValidateLlamaConfig(const ModelConfig& config, const std::string& source);
std::string SerializeLlamaConfig(const ModelConfig& config, DType dtype);

absl::StatusOr<std::unique_ptr<FactoredModel>> LoadLlama(const Checkpoint& checkpoint,
                                                         Device& device,
                                                         const LoadOptions& options);

}  // namespace rankine
