#include "models/llama_layout.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace rankine {

std::vector<LinearSpec> LlamaLinears(const ModelConfig& c) {
  const int64_t q = c.num_heads * c.head_dim;
  const int64_t kv = c.num_kv_heads * c.head_dim;
  std::vector<LinearSpec> linears;
  for (int64_t l = 0; l < c.num_layers; ++l) {
    const std::string attention = absl::StrCat("model.layers.", l, ".self_attn.");
    const std::string mlp = absl::StrCat("model.layers.", l, ".mlp.");
    linears.push_back({attention + "q_proj", q, c.hidden_size, c.attention_bias});
    linears.push_back({attention + "k_proj", kv, c.hidden_size, c.attention_bias});
    linears.push_back({attention + "v_proj", kv, c.hidden_size, c.attention_bias});
    linears.push_back({attention + "o_proj", c.hidden_size, q, c.attention_bias});
    linears.push_back({mlp + "gate_proj", c.intermediate_size, c.hidden_size, c.mlp_bias});
    linears.push_back({mlp + "up_proj", c.intermediate_size, c.hidden_size, c.mlp_bias});
    linears.push_back({mlp + "down_proj", c.hidden_size, c.intermediate_size, c.mlp_bias});
  }
  if (!c.tie_embeddings) linears.push_back({"lm_head", c.vocab_size, c.hidden_size, false});
  return linears;
}

std::vector<VectorSpec> LlamaVectors(const ModelConfig& c) {
  std::vector<VectorSpec> vectors;
  for (int64_t l = 0; l < c.num_layers; ++l) {
    vectors.push_back({absl::StrCat("model.layers.", l, ".input_layernorm.weight"), c.hidden_size});
    vectors.push_back(
        {absl::StrCat("model.layers.", l, ".post_attention_layernorm.weight"), c.hidden_size});
  }
  vectors.push_back({"model.norm.weight", c.hidden_size});
  return vectors;
}

ModelLayout LlamaLayout(const ModelConfig& c) {
  const std::string embedding(absl::StripSuffix(kEmbeddingTensor, ".weight"));
  ModelLayout layout{.embeddings = {{embedding, c.vocab_size, c.hidden_size}},
                     .linears = LlamaLinears(c),
                     .vectors = LlamaVectors(c)};
  layout.vectors.push_back({kRopeFreqsTensor, c.head_dim / 2, /*optional=*/true});
  return layout;
}

}  // namespace rankine
