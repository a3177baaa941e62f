// What the tensors of a Llama GGUF are called, under which Hugging Face name they are known here,
// and which shape the config demands of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/config.h"

namespace rankine {

// Extents as the config gives them. kNone: the tensor is a vector of the other extent.
enum class GgufExtent : uint8_t { kNone, kHidden, kVocabulary, kIntermediate, kQuery, kKeyValue };

struct GgufTensorRole {
  std::string hf_name;  // "model.layers.0.self_attn.q_proj.weight"
  int64_t layer = -1;   // -1: not of a layer
  // llama.cpp's converter reorders the rows of q and k within each head (the halves are
  // interleaved), because its RoPE rotates neighbouring pairs where Hugging Face rotates halves.
  // The reader undoes it.
  bool interleaved_heads = false;
  GgufExtent rows = GgufExtent::kNone;
  GgufExtent cols = GgufExtent::kNone;  // kNone for vectors
  bool is_attention_bias = false;
  bool is_mlp_bias = false;
};

// Of any tensor but rope_freqs.weight, which belongs to no role. Empty for a name that Llama
// does not have.
std::optional<GgufTensorRole> FindGgufRole(std::string_view gguf_name);

// [rows, cols] or [n], outermost first.
std::vector<int64_t> ExpectedShape(const GgufTensorRole& role, const ModelConfig& config);

// GGUF names of the tensors that a model of this config must have, biases as the config's flags
// say.
std::vector<std::string> RequiredGgufNames(const ModelConfig& config);

}  // namespace rankine
