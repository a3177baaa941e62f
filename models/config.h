// Hyperparameters of a model, whatever file they came from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rankine {

enum class RopeType : uint8_t { kDefault, kLinear, kLlama3 };

// Rotary position embedding (arXiv 2104.09864) and its scalings.
struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000.0;
  double factor = 1.0;                   // kLinear and kLlama3
  double low_freq_factor = 1.0;          // kLlama3
  double high_freq_factor = 4.0;         // kLlama3
  int64_t original_max_position = 8192;  // kLlama3
  // Divisors of each inverse frequency [head_dim / 2], as GGUF's rope_freqs.weight carries them;
  // empty = none.
  std::vector<float> frequency_divisors;
};

struct ModelConfig {
  std::string architecture;  // key of the registry: "llama", "bert"
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position = 0;  // context length
  double rms_norm_eps = 1e-5;
  double layer_norm_eps = 1e-12;
  int64_t type_vocab_size = 0;  // rows of the embedding of token types; 0 = there is none
  RopeConfig rope;
  bool tie_embeddings = false;
  bool attention_bias = false;
  bool mlp_bias = false;
  int32_t bos_id = -1;           // -1 = none
  std::vector<int32_t> eos_ids;  // any of them ends a sequence
  // Set in folders written by `rankine synth`: weights mean nothing.
  bool random_weights = false;
};

}  // namespace rankine
