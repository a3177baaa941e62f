#include "models/llama_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "kernels/cpu/thread_pool.h"
#include "models/rope.h"

namespace rankine {
namespace {

int64_t Padded(int64_t columns) { return RoundUp(columns, kColumnPad); }

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

}  // namespace

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
  auto allocate = [&](int64_t num_rows, int64_t columns) -> void* {
    if (!failed.ok()) return nullptr;
    int64_t bytes = 0;
    absl::StatusOr<Buffer> buffer = absl::ResourceExhaustedError("its size overflows");
    if (CheckedMul(num_rows, columns, &bytes) &&
        CheckedMul(std::max(bytes, kColumnPad), sizeof(float), &bytes)) {
      buffer = Buffer::Allocate(*device_, bytes);
    }
    if (!buffer.ok()) {
      failed = absl::Status(
          buffer.status().code(),
          absl::StrCat("the workspace for steps of ", limits.max_tokens, " tokens and ",
                       limits.max_logit_rows, " sequences: ", buffer.status().message()));
      return nullptr;
    }
    ws->buffers.push_back(*std::move(buffer));
    return ws->buffers.back().data();
  };
  const int64_t rows = limits.max_tokens, half = config_.head_dim / 2;
  ws->hidden_view =
      View(allocate(rows, Padded(config_.hidden_size)), DType::kF32, rows, config_.hidden_size);
  ws->input = allocate(std::max(rows, limits.max_logit_rows), Padded(MaxInputColumns()));
  ws->intermediate = allocate(std::max(rows, limits.max_logit_rows), widest_z);
  ws->projected = static_cast<float*>(allocate(rows, widest_output));
  ws->cos = static_cast<float*>(allocate(rows, half));
  ws->sin = static_cast<float*>(allocate(rows, half));
  if (!failed.ok()) return failed;  // so that the sizes below do not overflow
  ThreadPool* pool = device_->stream().pool;
  const int64_t scratch =
      AttentionWorkspaceBytes(rows, limits.max_context, config_.num_heads, config_.head_dim,
                              pool == nullptr ? 1 : pool->num_threads());
  ws->attention = allocate(1, CeilDiv(scratch, static_cast<int64_t>(sizeof(float))));
  const int64_t logit_rows = limits.max_logit_rows;
  ws->logit_hidden = View(allocate(logit_rows, Padded(config_.hidden_size)), DType::kF32,
                          logit_rows, config_.hidden_size);
  ws->logits = View(allocate(logit_rows, Padded(config_.vocab_size)), DType::kF32, logit_rows,
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

}  // namespace rankine
