// Which tensors a model consists of: one list for every reader and writer of files.
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
  bool optional = false;  // may be missing as a whole

  std::string weight() const { return name + ".weight"; }
  std::string bias() const { return name + ".bias"; }
};

struct VectorSpec {
  std::string name;  // "model.norm.weight"
  int64_t size = 0;
  bool optional = false;
};

struct ModelLayout {
  // Tables that rows are gathered from, as matrices [rows, hidden_size]; the tokens' comes first.
  std::vector<LinearSpec> embeddings;
  // Every other linear layer in the order of use.
  std::vector<LinearSpec> linears;
  // Weights and biases of norms, and the like; kept in f32.
  std::vector<VectorSpec> vectors;
};

// Of a config whose architecture is in the registry.
ModelLayout LayoutOf(const ModelConfig& config);

}  // namespace rankine
