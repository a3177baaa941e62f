// From a checkpoint to a BertModel: names, shapes and groups of the architecture.
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/bert.h"
#include "models/bert_model.h"
#include "models/linear_loader.h"
#include "models/status_macros.h"

namespace rankine {

class BertLoader {
 public:
  BertLoader(const Checkpoint& checkpoint, Device& device, const LoadOptions& options)
      : config_(checkpoint.config()), device_(device), linears_(checkpoint, device, options) {}

  absl::StatusOr<std::unique_ptr<FactoredModel>> Load();

 private:
  absl::Status Norm(const std::string& name, BertNorm* norm);
  absl::Status LoadEmbeddings(BertModel* model);
  absl::Status LoadLayer(int64_t index, BertLayer* layer);
  absl::Status LoadWeights(BertModel* model);

  const ModelConfig& config_;
  Device& device_;
  LinearLoader linears_;
};

absl::Status BertLoader::Norm(const std::string& name, BertNorm* norm) {
  RK_ASSIGN_OR_RETURN(norm->weight, linears_.Vector(name + ".weight", config_.hidden_size));
  RK_ASSIGN_OR_RETURN(norm->bias, linears_.Vector(name + ".bias", config_.hidden_size));
  return absl::OkStatus();
}

absl::Status BertLoader::LoadEmbeddings(BertModel* model) {
  const ModelConfig& c = config_;
  RK_RETURN_IF_ERROR(
      linears_.Table("embeddings.word_embeddings", c.vocab_size, c.hidden_size, &model->words_));
  RK_RETURN_IF_ERROR(linears_.Table("embeddings.position_embeddings", c.max_position, c.hidden_size,
                                    &model->positions_));
  RK_RETURN_IF_ERROR(linears_.Table("embeddings.token_type_embeddings", c.type_vocab_size,
                                    c.hidden_size, &model->types_));
  return Norm("embeddings.LayerNorm", &model->embedding_norm_);
}

absl::Status BertLoader::LoadLayer(int64_t index, BertLayer* layer) {
  const int64_t n = config_.hidden_size, wide = config_.intermediate_size;
  const std::string prefix = absl::StrCat("encoder.layer.", index, ".");
  const std::string attention = prefix + "attention.";
  RK_RETURN_IF_ERROR(linears_.Group(
      {{attention + "self.query", n}, {attention + "self.key", n}, {attention + "self.value", n}},
      n, &layer->qkv));
  RK_RETURN_IF_ERROR(
      linears_.Group({{attention + "output.dense", n}}, n, &layer->attention_output));
  RK_RETURN_IF_ERROR(Norm(attention + "output.LayerNorm", &layer->attention_norm));
  RK_RETURN_IF_ERROR(
      linears_.Group({{prefix + "intermediate.dense", wide}}, n, &layer->intermediate));
  RK_RETURN_IF_ERROR(linears_.Group({{prefix + "output.dense", n}}, wide, &layer->output));
  return Norm(prefix + "output.LayerNorm", &layer->output_norm);
}

absl::Status BertLoader::LoadWeights(BertModel* model) {
  RK_RETURN_IF_ERROR(LoadEmbeddings(model));
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    RK_RETURN_IF_ERROR(LoadLayer(i, &model->layers_[i]));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<FactoredModel>> BertLoader::Load() {
  const ModelConfig& c = config_;
  auto model = std::make_unique<BertModel>();
  model->device_ = &device_;
  model->config_ = c;
  model->shape_ = {.vocab_size = c.vocab_size,
                   .hidden_size = c.hidden_size,
                   .num_layers = c.num_layers,
                   .kv_heads = c.num_heads,
                   .head_dim = c.head_dim,
                   .max_position = c.max_position,
                   .is_encoder = true};
  model->layers_.resize(c.num_layers);
  RK_RETURN_IF_ERROR(linears_.Load([&] { return LoadWeights(model.get()); }));
  return model;
}

absl::StatusOr<std::unique_ptr<FactoredModel>> LoadBert(const Checkpoint& checkpoint,
                                                        Device& device,
                                                        const LoadOptions& options) {
  return BertLoader(checkpoint, device, options).Load();
}

}  // namespace rankine
