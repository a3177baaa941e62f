// From a checkpoint to a LlamaModel: names, shapes and groups of the architecture.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "models/linear_loader.h"
#include "models/llama.h"
#include "models/llama_model.h"
#include "models/rope.h"

namespace rankine {

class LlamaLoader {
 public:
  LlamaLoader(const Checkpoint& checkpoint, Device& device, const LoadOptions& options)
      : config_(checkpoint.config()), device_(device), linears_(checkpoint, device, options) {}

  absl::StatusOr<std::unique_ptr<FactoredModel>> Load();

 private:
  absl::Status LoadLayer(int64_t index, LlamaLayer* layer);
  absl::Status LoadWeights(LlamaModel* model);

  const ModelConfig& config_;
  Device& device_;
  LinearLoader linears_;
};

absl::Status LlamaLoader::LoadLayer(int64_t index, LlamaLayer* layer) {
  const ModelConfig& c = config_;
  const std::string prefix = absl::StrCat("model.layers.", index, ".");
  const std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
  auto input_norm = linears_.Vector(prefix + "input_layernorm.weight", c.hidden_size);
  if (!input_norm.ok()) return input_norm.status();
  layer->input_norm = *std::move(input_norm);
  auto post_norm = linears_.Vector(prefix + "post_attention_layernorm.weight", c.hidden_size);
  if (!post_norm.ok()) return post_norm.status();
  layer->post_attention_norm = *std::move(post_norm);
  const int64_t q_size = c.num_heads * c.head_dim, kv_size = c.num_kv_heads * c.head_dim;
  auto status = linears_.Group({{attention + "q_proj", q_size},
                                {attention + "k_proj", kv_size},
                                {attention + "v_proj", kv_size}},
                               c.hidden_size, &layer->qkv);
  if (status.ok())
    status = linears_.Group({{attention + "o_proj", c.hidden_size}}, q_size, &layer->o);
  if (status.ok()) {
    status = linears_.Group(
        {{mlp + "gate_proj", c.intermediate_size}, {mlp + "up_proj", c.intermediate_size}},
        c.hidden_size, &layer->gate_up);
  }
  if (status.ok())
    status =
        linears_.Group({{mlp + "down_proj", c.hidden_size}}, c.intermediate_size, &layer->down);
  return status;
}

absl::Status LlamaLoader::LoadWeights(LlamaModel* model) {
  const ModelConfig& c = config_;
  for (int64_t i = 0; i < c.num_layers; ++i) {
    if (auto status = LoadLayer(i, &model->layers_[i]); !status.ok()) return status;
  }
  auto final_norm = linears_.Vector("model.norm.weight", c.hidden_size);
  if (!final_norm.ok()) return final_norm.status();
  model->final_norm_ = *std::move(final_norm);
  const std::string embedding = "model.embed_tokens";
  model->head_.emplace();
  if (c.tie_embeddings)
    return linears_.Table(embedding, c.vocab_size, c.hidden_size, &*model->head_);
  auto status = linears_.Group({{"lm_head", c.vocab_size}}, c.hidden_size, &*model->head_);
  if (!status.ok()) return status;
  model->embedding_.emplace();
  return linears_.Table(embedding, c.vocab_size, c.hidden_size, &*model->embedding_);
}

absl::StatusOr<std::unique_ptr<FactoredModel>> LlamaLoader::Load() {
  const ModelConfig& c = config_;
  auto model = std::make_unique<LlamaModel>();
  model->device_ = &device_;
  model->config_ = c;
  model->shape_ = {.vocab_size = c.vocab_size,
                   .hidden_size = c.hidden_size,
                   .num_layers = c.num_layers,
                   .kv_heads = c.num_kv_heads,
                   .head_dim = c.head_dim,
                   .max_position = c.max_position,
                   .eos_ids = c.eos_ids};
  model->inverse_frequencies_ = RopeInverseFrequencies(c.rope, c.head_dim);
  model->layers_.resize(c.num_layers);
  auto status = linears_.Load([&] { return LoadWeights(model.get()); });
  if (!status.ok()) return status;
  return model;
}

absl::StatusOr<std::unique_ptr<FactoredModel>> LoadLlama(const Checkpoint& checkpoint,
                                                         Device& device,
                                                         const LoadOptions& options) {
  return LlamaLoader(checkpoint, device, options).Load();
}

}  // namespace rankine
