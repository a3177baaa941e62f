#include "models/llama_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "kernels/api/quantized_rows.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "kernels/cpu/thread_pool.h"
#include "models/activations.h"
#include "models/rope.h"

namespace rankine {

int64_t LlamaModel::MaxInputColumns() const {
  return std::max(
      {config_.hidden_size, config_.intermediate_size, config_.num_heads * config_.head_dim});
}

absl::StatusOr<std::unique_ptr<Workspace>> LlamaModel::NewWorkspace(
    const ForwardLimits& limits) const {
  auto ws = std::make_unique<LlamaWorkspace>();
  ws->limits = limits;
  int64_t widest_output = 0, group_bytes = 0;
  const int64_t input_rows = std::max(limits.max_tokens, limits.max_logit_rows);
  for (const LinearGroup* group : groups()) {
    if (group != &*head_) widest_output = std::max(widest_output, group->output_columns());
    group_bytes = std::max(group_bytes, group->workspace_bytes(input_rows));
  }
  WorkspaceAllocator memory(*device_, limits, &ws->buffers);
  const int64_t rows = limits.max_tokens, half = config_.head_dim / 2;
  ws->hidden_view = PaddedView(memory.Allocate(rows, PaddedColumns(config_.hidden_size)),
                               DType::kF32, rows, config_.hidden_size);
  ws->input.dense = memory.Allocate(input_rows, PaddedColumns(MaxInputColumns()));
  ws->input.quantized = memory.Allocate(
      input_rows, QuantizedRowBytes(MaxInputColumns()) / static_cast<int64_t>(sizeof(float)));
  ws->group = memory.AllocateBytes(group_bytes);
  ws->projected = static_cast<float*>(memory.Allocate(rows, widest_output));
  ws->cos = static_cast<float*>(memory.Allocate(rows, half));
  ws->sin = static_cast<float*>(memory.Allocate(rows, half));
  if (!memory.status().ok()) return memory.status();  // so that the sizes below do not overflow
  ThreadPool* pool = device_->stream().pool;
  const int64_t scratch =
      AttentionWorkspaceBytes(rows, limits.max_context, config_.num_heads, config_.head_dim,
                              pool == nullptr ? 1 : pool->num_threads());
  ws->attention = memory.AllocateBytes(scratch);
  const int64_t logit_rows = limits.max_logit_rows;
  ws->logit_hidden = PaddedView(memory.Allocate(logit_rows, PaddedColumns(config_.hidden_size)),
                                DType::kF32, logit_rows, config_.hidden_size);
  ws->logits = PaddedView(memory.Allocate(logit_rows, PaddedColumns(config_.vocab_size)),
                          DType::kF32, logit_rows, config_.vocab_size);
  if (!memory.status().ok()) return memory.status();
  return ws;
}

void LlamaModel::Embed(const BatchInput& batch, Workspace& workspace) const {
  auto& ws = static_cast<Ws&>(workspace);
  const int64_t rows = batch.num_tokens();
  RK_CHECK(rows <= ws.limits.max_tokens);
  const LinearGroup& table = embedding_ ? *embedding_ : *head_;
  device_->ops().gather_rows({.core = table.dense_core(0),
                              .ids = batch.token_ids.data(),
                              .num_ids = rows,
                              .out = FirstRows(ws.hidden_view, rows)},
                             device_->stream());
  RopeTables(inverse_frequencies_, batch.positions.data(), rows, ws.cos, ws.sin);
}

void LlamaModel::Norm(const MatrixView& x, const Buffer& weight, const GroupInput& out) const {
  device_->ops().rms_norm({.x = x,
                           .weight = weight.As<float>(),
                           .eps = static_cast<float>(config_.rms_norm_eps),
                           .out = out.dense,
                           .quantized = out.quantized},
                          device_->stream());
}

GroupInput LlamaModel::InputOf(const LinearGroup& group, int64_t rows, Ws& ws,
                               const ActivationObserver* observer) const {
  return GroupInputOf(group, rows, ws.input, observer != nullptr);
}

void LlamaModel::RunGroup(const LinearGroup& group, const GroupInput& x, Ws& ws,
                          const MatrixView& y, bool accumulate,
                          ActivationObserver* observer) const {
  if (observer != nullptr) observer->OnGroupInput(group.name(), x.dense);
  group.Run(*device_, x, y, ws.group, accumulate);
}

void LlamaModel::Attention(const LlamaLayer& layer, const BatchInput& batch, const KvLayer& cache,
                           Ws& ws, ActivationObserver* observer) const {
  const int64_t rows = batch.num_tokens(), head_dim = config_.head_dim;
  const MatrixView hidden = FirstRows(ws.hidden_view, rows);
  const GroupInput qkv_input = InputOf(layer.qkv, rows, ws, observer);
  Norm(hidden, layer.input_norm, qkv_input);
  const MatrixView qkv{.data = ws.projected,
                       .rows = rows,
                       .cols = layer.qkv.output_columns(),
                       .stride = layer.qkv.output_columns()};
  RunGroup(layer.qkv, qkv_input, ws, qkv, /*accumulate=*/false, observer);
  const MatrixView q = ColumnsOf(qkv, layer.qkv.output_column(0), config_.num_heads * head_dim);
  device_->ops().rope_append(
      {.q = q,
       .k = ColumnsOf(qkv, layer.qkv.output_column(1), config_.num_kv_heads * head_dim),
       .v = ColumnsOf(qkv, layer.qkv.output_column(2), config_.num_kv_heads * head_dim),
       .cos = ws.cos,
       .sin = ws.sin,
       .slots = batch.slots.data(),
       .num_heads = config_.num_heads,
       .cache = cache},
      device_->stream());
  GroupInput o_input = InputOf(layer.o, rows, ws, observer);
  if (o_input.dense.data == nullptr)
    o_input.dense = PaddedView(ws.input.dense, DType::kF32, rows, layer.o.in_features());
  device_->ops().attention({.q = q,
                            .out = o_input.dense,
                            .sequences = batch.sequences.data(),
                            .num_sequences = static_cast<int64_t>(batch.sequences.size()),
                            .num_heads = config_.num_heads,
                            .scale = 1.0f / std::sqrt(static_cast<float>(head_dim)),
                            .cache = cache,
                            .workspace = ws.attention},
                           device_->stream());
  if (layer.o.needs_quantized()) {
    device_->ops().convert({.x = o_input.dense, .out = o_input.quantized}, device_->stream());
  }
  RunGroup(layer.o, o_input, ws, hidden, /*accumulate=*/true, observer);
}

void LlamaModel::Mlp(const LlamaLayer& layer, int64_t rows, Ws& ws,
                     ActivationObserver* observer) const {
  const MatrixView hidden = FirstRows(ws.hidden_view, rows);
  const GroupInput input = InputOf(layer.gate_up, rows, ws, observer);
  Norm(hidden, layer.post_attention_norm, input);
  const MatrixView gate_up{.data = ws.projected,
                           .rows = rows,
                           .cols = layer.gate_up.output_columns(),
                           .stride = layer.gate_up.output_columns()};
  RunGroup(layer.gate_up, input, ws, gate_up, /*accumulate=*/false, observer);
  const GroupInput down_input = InputOf(layer.down, rows, ws, observer);
  device_->ops().silu_mul(
      {.gate = ColumnsOf(gate_up, layer.gate_up.output_column(0), config_.intermediate_size),
       .up = ColumnsOf(gate_up, layer.gate_up.output_column(1), config_.intermediate_size),
       .out = down_input.dense,
       .quantized = down_input.quantized},
      device_->stream());
  RunGroup(layer.down, down_input, ws, hidden, /*accumulate=*/true, observer);
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
  const GroupInput input = InputOf(*head_, rows, ws, nullptr);
  Norm(FirstRows(ws.logit_hidden, rows), final_norm_, input);
  const MatrixView logits = FirstRows(ws.logits, rows);
  RunGroup(*head_, input, ws, logits, /*accumulate=*/false, nullptr);
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

int64_t LlamaModel::operations_per_token() const {
  int64_t total = 0;
  for (const LinearGroup* group : groups()) total += group->plan().operations_per_token();
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
