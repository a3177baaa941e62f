#include "tools/synth/shapes.h"

#include "absl/strings/str_cat.h"

namespace rankine {
namespace {

ModelConfig Llama2() {
  return {.vocab_size = 32000,
          .hidden_size = 4096,
          .intermediate_size = 11008,
          .num_layers = 32,
          .num_heads = 32,
          .num_kv_heads = 32,
          .head_dim = 128,
          .max_position = 4096};
}

ModelConfig Llama3() {
  return {.vocab_size = 128256,
          .hidden_size = 4096,
          .intermediate_size = 14336,
          .num_layers = 32,
          .num_heads = 32,
          .num_kv_heads = 8,
          .head_dim = 128,
          .max_position = 8192,
          .rope = {.theta = 500000.0}};
}

ModelConfig StarCoder() {
  return {.vocab_size = 49152,
          .hidden_size = 6144,
          .intermediate_size = 24576,
          .num_layers = 40,
          .num_heads = 48,
          .num_kv_heads = 1,
          .head_dim = 128,
          .max_position = 8192,
          .tie_embeddings = true,
          .attention_bias = true,
          .mlp_bias = true};
}

ModelConfig SmolLm2() {
  return {.vocab_size = 49152,
          .hidden_size = 576,
          .intermediate_size = 1536,
          .num_layers = 30,
          .num_heads = 9,
          .num_kv_heads = 3,
          .head_dim = 64,
          .max_position = 8192,
          .rope = {.theta = 100000.0},
          .tie_embeddings = true};
}

constexpr char kStarCoderNote[] =
    "StarCoder's architecture (gpt_bigcode) is not supported yet: these are its linear shapes in a "
    "Llama architecture, whose MLP has one more matrix of [24576, 6144] (the gate) in each layer";

struct Entry {
  const char* name;
  ModelConfig (*make)();
  const char* note;
};

constexpr Entry kShapes[] = {{"llama-2-7b", &Llama2, ""},
                             {"llama-3-8b", &Llama3, ""},
                             {"starcoder-15b", &StarCoder, kStarCoderNote},
                             {"smollm2-135m", &SmolLm2, ""}};

}  // namespace

absl::StatusOr<NamedShape> FindShape(const std::string& name, int64_t layers) {
  std::string known;
  for (const Entry& entry : kShapes) {
    if (name != entry.name) {
      absl::StrAppend(&known, known.empty() ? "" : ", ", entry.name);
      continue;
    }
    NamedShape shape{.config = entry.make(), .note = entry.note};
    shape.config.architecture = "llama";
    shape.config.random_weights = true;
    if (layers != 0) shape.config.num_layers = layers;
    return shape;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--shape: unknown shape '", name, "'; known: ", known));
}

}  // namespace rankine
