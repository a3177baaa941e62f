#include "models/llama.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/cpu/thread_pool.h"
#include "models/rope.h"

namespace rankine {
namespace {

struct LlamaLayer {
  Buffer input_norm;           // f32 [hidden]
  Buffer post_attention_norm;  // f32 [hidden]
  LinearGroup qkv, o, gate_up, down;
};

int64_t Padded(int64_t columns) { return RoundUp(columns, kColumnPad); }

// Activations of a pass. Buffers are as wide as the widest user of each needs.
class LlamaWorkspace : public Workspace {
 public:
  MatrixView hidden() override { return hidden_view; }
  int64_t bytes() const override {
    int64_t total = 0;
    for (const Buffer& b : buffers) total += b.bytes();
    return total;
  }

  ForwardLimits limits;
  std::vector<Buffer> buffers;
  MatrixView hidden_view;        // f32 [max_tokens, hidden]
  void* input = nullptr;         // what a group reads: [max_tokens, widest input], f32 or bf16
  void* intermediate = nullptr;  // z of factored groups
  float* projected = nullptr;    // f32 [max_tokens, widest group output]
  float* cos = nullptr;          // f32 [max_tokens, head_dim / 2]
  float* sin = nullptr;
  void* attention = nullptr;  // scratch of the attention op
  MatrixView logit_hidden;    // f32 [max_logit_rows, hidden]
  MatrixView logits;          // f32 [max_logit_rows, vocab]
};

class LlamaModel : public FactoredModel {
 public:
  const ModelShape& shape() const override { return shape_; }
  Device& device() const override { return *device_; }
  const ModelConfig& config() const override { return config_; }
  absl::StatusOr<std::unique_ptr<Workspace>> NewWorkspace(
      const ForwardLimits& limits) const override;
  void Embed(const BatchInput& batch, Workspace& workspace) const override;
  void Layer(int64_t layer, const BatchInput& batch, const KvCache* cache, Workspace& workspace,
             ActivationObserver* observer) const override;
  MatrixView Head(const BatchInput& batch, Workspace& workspace) const override;
  int64_t weight_bytes() const override;
  int64_t weight_bytes_per_token() const override;
  std::vector<const LinearGroup*> groups() const override;

 private:
  friend class LlamaLoader;
  using Ws = LlamaWorkspace;

  int64_t MaxInputColumns() const;
  void RunGroup(const LinearGroup& group, int64_t rows, Ws& ws, const MatrixView& y,
                bool accumulate, ActivationObserver* observer) const;
  void Norm(const MatrixView& x, const Buffer& weight, const MatrixView& out) const;
  void Attention(const LlamaLayer& layer, const BatchInput& batch, const KvLayer& cache, Ws& ws,
                 ActivationObserver* observer) const;
  void Mlp(const LlamaLayer& layer, int64_t rows, Ws& ws, ActivationObserver* observer) const;

  Device* device_ = nullptr;
  ModelConfig config_;
  ModelShape shape_;
  std::vector<float> inverse_frequencies_;
  std::vector<LlamaLayer> layers_;
  Buffer final_norm_;
  // The output matrix; with a tied embedding it is gathered from as well.
  std::optional<LinearGroup> head_;
  // Untied only.
  std::optional<LinearGroup> embedding_;
};

MatrixView View(void* data, DType dtype, int64_t rows, int64_t cols) {
  return {.data = data, .dtype = dtype, .rows = rows, .cols = cols, .stride = Padded(cols)};
}

MatrixView FirstRows(MatrixView view, int64_t rows) {
  view.rows = rows;
  return view;
}

MatrixView Slice(const MatrixView& base, int64_t column, int64_t cols) {
  MatrixView view = base;
  view.data = static_cast<float*>(base.data) + column;
  view.cols = cols;
  return view;
}

int64_t LlamaModel::MaxInputColumns() const {
  return std::max(
      {config_.hidden_size, config_.intermediate_size, config_.num_heads * config_.head_dim});
}

absl::StatusOr<std::unique_ptr<Workspace>> LlamaModel::NewWorkspace(
    const ForwardLimits& limits) const {
  auto ws = std::make_unique<LlamaWorkspace>();
  ws->limits = limits;
  int64_t widest_output = 0, widest_z = 0;
  for (const LinearGroup* group : groups()) {
    if (group != &*head_) widest_output = std::max(widest_output, group->output_columns());
    widest_z = std::max(widest_z, group->intermediate_columns());
  }
  absl::Status failed;
  auto allocate = [&](int64_t elements) -> void* {
    auto buffer = Buffer::Allocate(
        *device_, std::max<int64_t>(elements, 16) * static_cast<int64_t>(sizeof(float)));
    if (!buffer.ok()) {
      failed = buffer.status();
      return nullptr;
    }
    ws->buffers.push_back(*std::move(buffer));
    return ws->buffers.back().data();
  };
  const int64_t rows = limits.max_tokens, half = config_.head_dim / 2;
  ws->hidden_view =
      View(allocate(rows * Padded(config_.hidden_size)), DType::kF32, rows, config_.hidden_size);
  ws->input = allocate(std::max(rows, limits.max_logit_rows) * Padded(MaxInputColumns()));
  ws->intermediate = allocate(std::max(rows, limits.max_logit_rows) * widest_z);
  ws->projected = static_cast<float*>(allocate(rows * widest_output));
  ws->cos = static_cast<float*>(allocate(rows * half));
  ws->sin = static_cast<float*>(allocate(rows * half));
  ThreadPool* pool = device_->stream().pool;
  const int64_t scratch =
      AttentionWorkspaceBytes(rows, limits.max_context, config_.num_heads, config_.head_dim,
                              pool == nullptr ? 1 : pool->num_threads());
  ws->attention = allocate(CeilDiv(scratch, static_cast<int64_t>(sizeof(float))));
  const int64_t logit_rows = limits.max_logit_rows;
  ws->logit_hidden = View(allocate(logit_rows * Padded(config_.hidden_size)), DType::kF32,
                          logit_rows, config_.hidden_size);
  ws->logits = View(allocate(logit_rows * Padded(config_.vocab_size)), DType::kF32, logit_rows,
                    config_.vocab_size);
  if (!failed.ok()) return failed;
  return ws;
}

void LlamaModel::Embed(const BatchInput& batch, Workspace& workspace) const {
  auto& ws = static_cast<Ws&>(workspace);
  const int64_t rows = batch.num_tokens();
  RK_CHECK(rows <= ws.limits.max_tokens);
  const LinearGroup& table = embedding_ ? *embedding_ : *head_;
  device_->ops().gather_rows({.core = *table.dense_core(0),
                              .ids = batch.token_ids.data(),
                              .num_ids = rows,
                              .out = FirstRows(ws.hidden_view, rows)},
                             device_->stream());
  RopeTables(inverse_frequencies_, batch.positions.data(), rows, ws.cos, ws.sin);
}

void LlamaModel::Norm(const MatrixView& x, const Buffer& weight, const MatrixView& out) const {
  device_->ops().rms_norm({.x = x,
                           .weight = weight.As<float>(),
                           .eps = static_cast<float>(config_.rms_norm_eps),
                           .out = out},
                          device_->stream());
}

// The group's input is in ws.input, written by the op before it.
void LlamaModel::RunGroup(const LinearGroup& group, int64_t rows, Ws& ws, const MatrixView& y,
                          bool accumulate, ActivationObserver* observer) const {
  const MatrixView x = View(ws.input, group.compute(), rows, group.in_features());
  if (observer != nullptr) observer->OnGroupInput(group.name(), x);
  group.Run(*device_, x, y, ws.intermediate, accumulate);
}

void LlamaModel::Attention(const LlamaLayer& layer, const BatchInput& batch, const KvLayer& cache,
                           Ws& ws, ActivationObserver* observer) const {
  const int64_t rows = batch.num_tokens(), head_dim = config_.head_dim;
  const MatrixView hidden = FirstRows(ws.hidden_view, rows);
  Norm(hidden, layer.input_norm, View(ws.input, layer.qkv.compute(), rows, config_.hidden_size));
  const MatrixView qkv{.data = ws.projected,
                       .rows = rows,
                       .cols = layer.qkv.output_columns(),
                       .stride = layer.qkv.output_columns()};
  RunGroup(layer.qkv, rows, ws, qkv, /*accumulate=*/false, observer);
  const MatrixView q = Slice(qkv, layer.qkv.output_column(0), config_.num_heads * head_dim);
  device_->ops().rope_append(
      {.q = q,
       .k = Slice(qkv, layer.qkv.output_column(1), config_.num_kv_heads * head_dim),
       .v = Slice(qkv, layer.qkv.output_column(2), config_.num_kv_heads * head_dim),
       .cos = ws.cos,
       .sin = ws.sin,
       .slots = batch.slots.data(),
       .num_heads = config_.num_heads,
       .cache = cache},
      device_->stream());
  device_->ops().attention(
      {.q = q,
       .out = View(ws.input, layer.o.compute(), rows, config_.num_heads * head_dim),
       .sequences = batch.sequences.data(),
       .num_sequences = static_cast<int64_t>(batch.sequences.size()),
       .num_heads = config_.num_heads,
       .scale = 1.0f / std::sqrt(static_cast<float>(head_dim)),
       .cache = cache,
       .workspace = ws.attention},
      device_->stream());
  RunGroup(layer.o, rows, ws, hidden, /*accumulate=*/true, observer);
}

void LlamaModel::Mlp(const LlamaLayer& layer, int64_t rows, Ws& ws,
                     ActivationObserver* observer) const {
  const MatrixView hidden = FirstRows(ws.hidden_view, rows);
  Norm(hidden, layer.post_attention_norm,
       View(ws.input, layer.gate_up.compute(), rows, config_.hidden_size));
  const MatrixView gate_up{.data = ws.projected,
                           .rows = rows,
                           .cols = layer.gate_up.output_columns(),
                           .stride = layer.gate_up.output_columns()};
  RunGroup(layer.gate_up, rows, ws, gate_up, /*accumulate=*/false, observer);
  device_->ops().silu_mul(
      {.gate = Slice(gate_up, layer.gate_up.output_column(0), config_.intermediate_size),
       .up = Slice(gate_up, layer.gate_up.output_column(1), config_.intermediate_size),
       .out = View(ws.input, layer.down.compute(), rows, config_.intermediate_size)},
      device_->stream());
  RunGroup(layer.down, rows, ws, hidden, /*accumulate=*/true, observer);
}

void LlamaModel::Layer(int64_t index, const BatchInput& batch, const KvCache* cache,
                       Workspace& workspace, ActivationObserver* observer) const {
  auto& ws = static_cast<Ws&>(workspace);
  RK_CHECK(cache != nullptr);
  const LlamaLayer& layer = layers_[index];
  Attention(layer, batch, cache->layer(index), ws, observer);
  Mlp(layer, batch.num_tokens(), ws, observer);
}

MatrixView LlamaModel::Head(const BatchInput& batch, Workspace& workspace) const {
  auto& ws = static_cast<Ws&>(workspace);
  const int64_t rows = batch.num_logits();
  RK_CHECK(rows <= ws.limits.max_logit_rows);
  for (int64_t i = 0; i < rows; ++i) {
    std::memcpy(ws.logit_hidden.Row<float>(i), ws.hidden_view.Row<float>(batch.logit_rows[i]),
                ws.hidden_view.stride * sizeof(float));
  }
  Norm(FirstRows(ws.logit_hidden, rows), final_norm_,
       View(ws.input, head_->compute(), rows, config_.hidden_size));
  const MatrixView logits = FirstRows(ws.logits, rows);
  RunGroup(*head_, rows, ws, logits, /*accumulate=*/false, nullptr);
  return logits;
}

std::vector<const LinearGroup*> LlamaModel::groups() const {
  std::vector<const LinearGroup*> result;
  for (const LlamaLayer& layer : layers_) {
    for (const LinearGroup* group : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down})
      result.push_back(group);
  }
  result.push_back(&*head_);
  return result;
}

int64_t LlamaModel::weight_bytes_per_token() const {
  int64_t total = 0;
  for (const LinearGroup* group : groups()) total += group->plan().weight_bytes();
  return total;
}

int64_t LlamaModel::weight_bytes() const {
  int64_t total = final_norm_.bytes();
  for (const LinearGroup* group : groups()) total += group->weight_bytes();
  for (const LlamaLayer& layer : layers_)
    total += layer.input_norm.bytes() + layer.post_attention_norm.bytes();
  if (embedding_) total += embedding_->weight_bytes();
  return total;
}

// Reads tensors of a checkpoint for LinearGroup::Load.
class CheckpointSource : public TensorSource {
 public:
  explicit CheckpointSource(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}
  absl::Status ReadRows(const std::string& tensor, int64_t row_begin, int64_t row_end, DType dtype,
                        void* out) const override {
    const TensorInfo* info = checkpoint_.Find(tensor);
    if (info == nullptr)
      return absl::InvalidArgumentError(absl::StrCat("tensor ", tensor, " is missing"));
    return checkpoint_.ReadRows(*info, row_begin, row_end, dtype, out);
  }

 private:
  const Checkpoint& checkpoint_;
};

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
  auto buffer = Buffer::Allocate(device_, Padded(size) * static_cast<int64_t>(sizeof(float)));
  if (!buffer.ok()) return buffer;
  std::vector<float> host(size);
  if (auto status = source_.ReadRows(name, 0, 1, DType::kF32, host.data()); !status.ok())
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
  return DenseMatrix(name, out, in, Encoding::Float(weight->natural_dtype), weight->name,
                     has_bias ? name + ".bias" : "");
}

absl::Status LlamaLoader::Group(const std::vector<std::pair<std::string, int64_t>>& linears,
                                int64_t in, LinearGroup* group) {
  std::vector<FactoredMatrix> matrices;
  // A group is held in one dtype: the widest of its cores.
  DType dtype = DType::kBF16;
  for (const auto& [name, out] : linears) {
    auto matrix = Matrix(name, out, in);
    if (!matrix.ok()) return matrix.status();
    for (const Term& term : matrix->terms) {
      for (const Core& core : term.cores) {
        const TensorInfo* tensor = checkpoint_.Find(core.TensorOf("values"));
        if (core.legs.size() < 2 || tensor == nullptr) continue;
        const DType own = ResidentDType(options_, *tensor);
        if (own != DType::kBF16) dtype = own == dtype || dtype == DType::kBF16 ? own : DType::kF32;
      }
    }
    matrices.push_back(*std::move(matrix));
  }
  auto loaded = LinearGroup::Load(device_, matrices,
                                  {.weight_dtype = dtype,
                                   .compute = ComputeDType(options_, dtype),
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
  if (table.dense_core(0) == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat(embedding, ": a factored embedding is not supported; factor other linears"));
  }
  return model;
}

}  // namespace

absl::StatusOr<std::unique_ptr<FactoredModel>> LoadLlama(const Checkpoint& checkpoint,
                                                         Device& device,
                                                         const LoadOptions& options) {
  return LlamaLoader(checkpoint, device, options).Load();
}

}  // namespace rankine
