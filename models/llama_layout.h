// Which tensors a Llama model consists of: one list for every reader and writer of files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/config.h"

namespace rankine {

// A linear layer; its tensors are `name`.weight [out, in] and, with has_bias, `name`.bias [out].
struct LinearSpec {
  std::string name;  // "model.layers.0.self_attn.q_proj"
  int64_t out = 0;
  int64_t in = 0;
  bool has_bias = false;

  std::string weight() const { return name + ".weight"; }
  std::string bias() const { return name + ".bias"; }
};

struct VectorSpec {
  std::string name;  // "model.norm.weight"
  int64_t size = 0;
};

// Name of the embedding table [vocab_size, hidden_size].
inline constexpr char kEmbeddingTensor[] = "model.embed_tokens.weight";
// Name of the optional divisors of RoPE's inverse frequencies [head_dim / 2].
inline constexpr char kRopeFreqsTensor[] = "rope_freqs.weight";

// Every linear layer in the order of use; "lm_head" comes last, unless it is tied to the embedding.
std::vector<LinearSpec> LlamaLinears(const ModelConfig& config);

// The weights of the norms.
std::vector<VectorSpec> LlamaVectors(const ModelConfig& config);

}  // namespace rankine
