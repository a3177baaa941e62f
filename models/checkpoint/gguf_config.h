// The hyperparameters and the vocabulary in a GGUF file's metadata.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "models/checkpoint/gguf_metadata.h"
#include "models/config.h"
#include "models/tokenizer/gguf_vocabulary.h"

namespace rankine {

// Empty when the file has no tokenizer. kInvalidArgument names the key that is missing or
// inconsistent.
absl::StatusOr<std::optional<GgufVocabulary>> ReadGgufVocabulary(const GgufMetadata& metadata);

// Everything that metadata says; what the tensors say (tied embeddings, biases, frequency divisors)
// is left to the caller. `vocabulary` is null when there is none. kUnimplemented names an
// architecture, a RoPE scaling or another setting that is not supported, kInvalidArgument a key
// that is missing or makes no sense.
absl::StatusOr<ModelConfig> ReadGgufConfig(const GgufMetadata& metadata,
                                           const GgufVocabulary* vocabulary);

}  // namespace rankine
