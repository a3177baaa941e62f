// From a checkpoint to a LlamaModel: names, shapes and groups of the architecture.
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "models/checkpoint_source.h"
#include "models/llama.h"
#include "models/llama_model.h"
#include "models/rope.h"

namespace rankine {

class LlamaLoader {
 public:
  LlamaLoader(const Checkpoint& checkpoint, Device& device, const LoadOptions& options)
      : checkpoint_(checkpoint), device_(device), options_(options), source_(checkpoint) {}

  absl::StatusOr<std::unique_ptr<FactoredModel>> Load();

 private:
  absl::Status LoadLayer(int64_t index, LlamaLayer* layer);
  absl::StatusOr<Buffer> Vector(const std::string& name, int64_t size);
  absl::StatusOr<FactoredMatrix> Matrix(const std::string& name, int64_t out, int64_t in);
  absl::Status Group(const std::vector<std::pair<std::string, int64_t>>& linears, int64_t in,
                     LinearGroup* group);

  const Checkpoint& checkpoint_;
  Device& device_;
  const LoadOptions& options_;
  CheckpointSource source_;
};

absl::StatusOr<Buffer> LlamaLoader::Vector(const std::string& name, int64_t size) {
  auto buffer =
      Buffer::Allocate(device_, RoundUp(size, kColumnPad) * static_cast<int64_t>(sizeof(float)));
  if (!buffer.ok()) return buffer;
  std::vector<float> host(size);
  if (auto status = source_.ReadRows(name, 0, 1, size, DType::kF32, host.data()); !status.ok())
    return status;
  device_.CopyToDevice(buffer->data(), host.data(), size * static_cast<int64_t>(sizeof(float)));
  return buffer;
}

// The factored description of a linear where there is one, else its dense tensor.
absl::StatusOr<FactoredMatrix> LlamaLoader::Matrix(const std::string& name, int64_t out,
                                                   int64_t in) {
  for (const FactoredMatrix& m : checkpoint_.factored()) {
    if (m.name == name) return m;
  }
  const TensorInfo* weight = checkpoint_.Find(name + ".weight");
  if (weight == nullptr)
    return absl::InvalidArgumentError(absl::StrCat("tensor ", name, ".weight is missing"));
  if (weight->shape != std::vector<int64_t>{out, in}) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor ", weight->name, " does not have the shape [", out, ", ", in, "] of config.json"));
  }
  const bool has_bias = checkpoint_.Find(name + ".bias") != nullptr;
  const std::string bias = has_bias ? name + ".bias" : "";
  if (weight->natural_encoding && !options_.weight_dtype) return BlocksMatrix(name, *weight, bias);
  return DenseMatrix(name, out, in, Encoding::Float(weight->natural_dtype), weight->name, bias);
}

absl::Status LlamaLoader::Group(const std::vector<std::pair<std::string, int64_t>>& linears,
                                int64_t in, LinearGroup* group) {
  std::vector<FactoredMatrix> matrices;
  // A group is held in one dtype: that of its cores, or f32, which holds any mixture.
  std::optional<DType> common;
  for (const auto& [name, out] : linears) {
    auto matrix = Matrix(name, out, in);
    if (!matrix.ok()) return matrix.status();
    for (const Term& term : matrix->terms) {
      for (const Core& core : term.cores) {
        const TensorInfo* tensor = checkpoint_.Find(core.TensorOf("values"));
        if (core.legs.size() < 2 || tensor == nullptr) continue;
        const DType own = ResidentDType(options_, *tensor);
        common = common.value_or(own) == own ? own : DType::kF32;
      }
    }
    matrices.push_back(*std::move(matrix));
  }
  const DType dtype = common.value_or(DType::kBF16);
  auto loaded = LinearGroup::Load(device_, matrices,
                                  {.weight_dtype = dtype,
                                   .compute = ComputeDType(options_, dtype),
                                   .int8_blocks = QuantizesActivations(options_),
                                   .extra_weight_bytes = options_.extra_weight_bytes},
                                  source_);
  if (!loaded.ok()) return loaded.status();
  *group = *std::move(loaded);
  return absl::OkStatus();
}

absl::Status LlamaLoader::LoadLayer(int64_t index, LlamaLayer* layer) {
  const ModelConfig& c = checkpoint_.config();
  const std::string prefix = absl::StrCat("model.layers.", index, ".");
  const std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
  auto input_norm = Vector(prefix + "input_layernorm.weight", c.hidden_size);
  if (!input_norm.ok()) return input_norm.status();
  layer->input_norm = *std::move(input_norm);
  auto post_norm = Vector(prefix + "post_attention_layernorm.weight", c.hidden_size);
  if (!post_norm.ok()) return post_norm.status();
  layer->post_attention_norm = *std::move(post_norm);
  const int64_t q_size = c.num_heads * c.head_dim, kv_size = c.num_kv_heads * c.head_dim;
  auto status = Group({{attention + "q_proj", q_size},
                       {attention + "k_proj", kv_size},
                       {attention + "v_proj", kv_size}},
                      c.hidden_size, &layer->qkv);
  if (status.ok()) status = Group({{attention + "o_proj", c.hidden_size}}, q_size, &layer->o);
  if (status.ok()) {
    status =
        Group({{mlp + "gate_proj", c.intermediate_size}, {mlp + "up_proj", c.intermediate_size}},
              c.hidden_size, &layer->gate_up);
  }
  if (status.ok())
    status = Group({{mlp + "down_proj", c.hidden_size}}, c.intermediate_size, &layer->down);
  return status;
}

absl::StatusOr<std::unique_ptr<FactoredModel>> LlamaLoader::Load() {
  const ModelConfig& c = checkpoint_.config();
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
  for (int64_t i = 0; i < c.num_layers; ++i) {
    if (auto status = LoadLayer(i, &model->layers_[i]); !status.ok()) return status;
  }
  auto final_norm = Vector("model.norm.weight", c.hidden_size);
  if (!final_norm.ok()) return final_norm.status();
  model->final_norm_ = *std::move(final_norm);
  const std::string embedding = "model.embed_tokens";
  model->head_.emplace();
  if (auto status = Group({{c.tie_embeddings ? embedding : "lm_head", c.vocab_size}}, c.hidden_size,
                          &*model->head_);
      !status.ok()) {
    return status;
  }
  if (!c.tie_embeddings) {
    model->embedding_.emplace();
    if (auto status = Group({{embedding, c.vocab_size}}, c.hidden_size, &*model->embedding_);
        !status.ok())
      return status;
  }
  const LinearGroup& table = model->embedding_ ? *model->embedding_ : *model->head_;
  if (table.dense_core(0).data == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat(embedding, ": a factored embedding is not supported; factor other linears"));
  }
  return model;
}

absl::StatusOr<std::unique_ptr<FactoredModel>> LoadLlama(const Checkpoint& checkpoint,
                                                         Device& device,
                                                         const LoadOptions& options) {
  return LlamaLoader(checkpoint, device, options).Load();
}

}  // namespace rankine
