// The layout of Llama models.
#pragma once

#include <vector>

#include "models/layout.h"

namespace rankine {

// Name of the embedding table [vocab_size, hidden_size].
inline constexpr char kEmbeddingTensor[] = "model.embed_tokens.weight";
// Name of the optional divisors of RoPE's inverse frequencies [head_dim / 2].
inline constexpr char kRopeFreqsTensor[] = "rope_freqs.weight";

// Every linear layer in the order of use; "lm_head" comes last, unless it is tied to the embedding.
std::vector<LinearSpec> LlamaLinears(const ModelConfig& config);

// The weights of the norms, and the optional divisors of RoPE's frequencies.
std::vector<VectorSpec> LlamaVectors(const ModelConfig& config);

ModelLayout LlamaLayout(const ModelConfig& config);

}  // namespace rankine
