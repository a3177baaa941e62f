#include "models/bert.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/api/quantized_rows.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "kernels/cpu/thread_pool.h"
#include "models/bert_model.h"

namespace rankine {

absl::StatusOr<std::unique_ptr<Workspace>> BertModel::NewWorkspace(
    const ForwardLimits& limits) const {
  auto ws = std::make_unique<BertWorkspace>();
  ws->limits = limits;
  const int64_t rows = limits.max_tokens, n = config_.hidden_size;
  const int64_t max_sequences = limits.max_sequences > 0 ? limits.max_sequences : rows;
  const int64_t widest_input = std::max(n, config_.intermediate_size);
  // Embed gathers into what the groups write.
  int64_t widest_output = PaddedColumns(n), group_bytes = 0;
  for (const LinearGroup* group : groups()) {
    widest_output = std::max(widest_output, group->output_columns());
    group_bytes = std::max(group_bytes, group->workspace_bytes(rows));
  }
  WorkspaceAllocator memory(*device_, limits, &ws->buffers);
  ws->hidden_view =
      PaddedView(memory.Allocate(rows, PaddedColumns(n)), DType::kF32, rows, config_.hidden_size);
  ws->input.dense = memory.Allocate(rows, PaddedColumns(widest_input));
  ws->input.quantized =
      memory.Allocate(rows, QuantizedRowBytes(widest_input) / static_cast<int64_t>(sizeof(float)));
  ws->group = memory.AllocateBytes(group_bytes);
  ws->projected = static_cast<float*>(memory.Allocate(rows, widest_output));
  if (!memory.status().ok()) return memory.status();  // so that the sizes below do not overflow
  ThreadPool* pool = device_->stream().pool;
  ws->attention = memory.AllocateBytes(
      AttentionWorkspaceBytes(rows, limits.max_context, config_.num_heads, config_.head_dim,
                              pool == nullptr ? 1 : pool->num_threads()));
  if (!memory.status().ok()) return memory.status();
  // Every sequence fills its blocks but the last.
  const int64_t num_blocks = rows / kKvBlockTokens + std::min(max_sequences, rows);
  auto keys_values = KvCache::Create(*device_, {.num_layers = 1,
                                                .kv_heads = config_.num_heads,
                                                .head_dim = config_.head_dim,
                                                .num_blocks = num_blocks,
                                                .dtype = DType::kF32});
  if (!keys_values.ok()) return keys_values.status();
  ws->keys_values = *std::move(keys_values);
  ws->block_ids.resize(num_blocks);
  for (int64_t i = 0; i < num_blocks; ++i) ws->block_ids[i] = static_cast<int32_t>(i);
  ws->slots.reserve(rows);
  ws->sequences.reserve(max_sequences);
  ws->token_types.reserve(rows);
  return ws;
}

void BertModel::PlaceSequences(const BatchInput& batch, Ws& ws) const {
  ws.slots.clear();
  ws.sequences.clear();
  int64_t block = 0;
  for (const AttentionSequence& sequence : batch.sequences) {
    RK_CHECK(sequence.first_position == 0 && sequence.num_tokens <= config_.max_position);
    RK_CHECK(sequence.num_tokens <= ws.limits.max_context);
    const int64_t blocks = CeilDiv(sequence.num_tokens, kKvBlockTokens);
    RK_CHECK(block + blocks <= static_cast<int64_t>(ws.block_ids.size()));
    ws.sequences.push_back(sequence);
    ws.sequences.back().block_ids = ws.block_ids.data() + block;
    for (int64_t i = 0; i < sequence.num_tokens; ++i)
      ws.slots.push_back(block * kKvBlockTokens + i);  // its blocks stand side by side
    block += blocks;
  }
}

void BertModel::Norm(const BertNorm& norm, const MatrixView& x) const {
  device_->ops().layer_norm({.x = x,
                             .weight = norm.weight.As<float>(),
                             .bias = norm.bias.As<float>(),
                             .eps = static_cast<float>(config_.layer_norm_eps),
                             .out = x},
                            device_->stream());
}

void BertModel::Embed(const BatchInput& batch, Workspace& workspace) const {
  auto& ws = static_cast<Ws&>(workspace);
  const int64_t rows = batch.num_tokens();
  RK_CHECK(rows <= ws.limits.max_tokens);
  RK_CHECK(batch.token_types.empty() || static_cast<int64_t>(batch.token_types.size()) == rows);
  PlaceSequences(batch, ws);
  ws.token_types.assign(batch.token_types.begin(), batch.token_types.end());
  ws.token_types.resize(rows, 0);
  const MatrixView hidden = FirstRows(ws.hidden_view, rows);
  const auto gather = [&](const LinearGroup& table, const std::vector<int32_t>& ids,
                          const MatrixView& out) {
    device_->ops().gather_rows(
        {.core = table.dense_core(0), .ids = ids.data(), .num_ids = rows, .out = out},
        device_->stream());
  };
  gather(words_, batch.token_ids, hidden);
  const MatrixView term = PaddedView(ws.projected, DType::kF32, rows, config_.hidden_size);
  for (const auto& [table, ids] : {std::pair(&positions_, &batch.positions),
                                   std::pair(&types_, &std::as_const(ws).token_types)}) {
    gather(*table, *ids, term);
    device_->ops().add({.x = term, .y = hidden, .accumulate = true}, device_->stream());
  }
  Norm(embedding_norm_, hidden);
}

GroupInput BertModel::HiddenFor(const LinearGroup& group, int64_t rows, Ws& ws,
                                const ActivationObserver* observer) const {
  const MatrixView hidden = FirstRows(ws.hidden_view, rows);
  GroupInput input = GroupInputOf(group, rows, ws.input, observer != nullptr);
  if (input.dense.data != nullptr && input.dense.dtype == DType::kF32) {
    input.dense = hidden;
  } else if (input.dense.data != nullptr) {
    device_->ops().convert({.x = hidden, .out = input.dense}, device_->stream());
  }
  if (input.quantized.data != nullptr)
    device_->ops().convert({.x = hidden, .out = input.quantized}, device_->stream());
  return input;
}

void BertModel::RunGroup(const LinearGroup& group, const GroupInput& x, Ws& ws, const MatrixView& y,
                         bool accumulate, ActivationObserver* observer) const {
  if (observer != nullptr) observer->OnGroupInput(group.name(), x.dense);
  group.Run(*device_, x, y, ws.group, accumulate);
}

MatrixView BertModel::ProjectedBy(const LinearGroup& group, int64_t rows, Ws& ws) const {
  return {.data = ws.projected,
          .rows = rows,
          .cols = group.output_columns(),
          .stride = group.output_columns()};
}

void BertModel::Attention(const BertLayer& layer, int64_t rows, Ws& ws,
                          ActivationObserver* observer) const {
  const int64_t n = config_.hidden_size;
  const MatrixView hidden = FirstRows(ws.hidden_view, rows);
  const MatrixView qkv = ProjectedBy(layer.qkv, rows, ws);
  RunGroup(layer.qkv, HiddenFor(layer.qkv, rows, ws, observer), ws, qkv, /*accumulate=*/false,
           observer);
  const MatrixView q = ColumnsOf(qkv, layer.qkv.output_column(0), n);
  device_->ops().rope_append({.q = q,
                              .k = ColumnsOf(qkv, layer.qkv.output_column(1), n),
                              .v = ColumnsOf(qkv, layer.qkv.output_column(2), n),
                              .slots = ws.slots.data(),
                              .num_heads = config_.num_heads,
                              .cache = ws.keys_values->layer(0)},
                             device_->stream());
  GroupInput input = GroupInputOf(layer.attention_output, rows, ws.input, observer != nullptr);
  if (input.dense.data == nullptr) input.dense = PaddedView(ws.input.dense, DType::kF32, rows, n);
  device_->ops().attention({.q = q,
                            .out = input.dense,
                            .sequences = ws.sequences.data(),
                            .num_sequences = static_cast<int64_t>(ws.sequences.size()),
                            .num_heads = config_.num_heads,
                            .scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim)),
                            .causal = false,
                            .cache = ws.keys_values->layer(0),
                            .workspace = ws.attention},
                           device_->stream());
  if (input.quantized.data != nullptr)
    device_->ops().convert({.x = input.dense, .out = input.quantized}, device_->stream());
  RunGroup(layer.attention_output, input, ws, hidden, /*accumulate=*/true, observer);
  Norm(layer.attention_norm, hidden);
}

void BertModel::Mlp(const BertLayer& layer, int64_t rows, Ws& ws,
                    ActivationObserver* observer) const {
  const MatrixView hidden = FirstRows(ws.hidden_view, rows);
  const MatrixView wide = ProjectedBy(layer.intermediate, rows, ws);
  RunGroup(layer.intermediate, HiddenFor(layer.intermediate, rows, ws, observer), ws, wide,
           /*accumulate=*/false, observer);
  const GroupInput input = GroupInputOf(layer.output, rows, ws.input, observer != nullptr);
  device_->ops().gelu({.x = ColumnsOf(wide, 0, config_.intermediate_size),
                       .out = input.dense,
                       .quantized = input.quantized},
                      device_->stream());
  RunGroup(layer.output, input, ws, hidden, /*accumulate=*/true, observer);
  Norm(layer.output_norm, hidden);
}

void BertModel::Layer(int64_t index, const BatchInput& batch, const KvCache* cache,
                      Workspace& workspace, ActivationObserver* observer) const {
  RK_CHECK(cache == nullptr);
  auto& ws = static_cast<Ws&>(workspace);
  Attention(layers_[index], batch.num_tokens(), ws, observer);
  Mlp(layers_[index], batch.num_tokens(), ws, observer);
}

MatrixView BertModel::Head(const BatchInput&, Workspace&) const {
  RK_CHECK(false);  // shape().is_encoder
  return {};
}

std::vector<const LinearGroup*> BertModel::groups() const {
  std::vector<const LinearGroup*> result;
  for (const BertLayer& layer : layers_) {
    for (const LinearGroup* group :
         {&layer.qkv, &layer.attention_output, &layer.intermediate, &layer.output})
      result.push_back(group);
  }
  return result;
}

int64_t BertModel::weight_bytes_per_token() const {
  int64_t total = 0;
  for (const LinearGroup* group : groups()) total += group->plan().weight_bytes();
  return total;
}

int64_t BertModel::operations_per_token() const {
  int64_t total = 0;
  for (const LinearGroup* group : groups()) total += group->plan().operations_per_token();
  return total;
}

int64_t BertModel::weight_bytes() const {
  const auto bytes = [](const BertNorm& norm) { return norm.weight.bytes() + norm.bias.bytes(); };
  int64_t total = words_.weight_bytes() + positions_.weight_bytes() + types_.weight_bytes() +
                  bytes(embedding_norm_);
  for (const LinearGroup* group : groups()) total += group->weight_bytes();
  for (const BertLayer& layer : layers_)
    total += bytes(layer.attention_norm) + bytes(layer.output_norm);
  return total;
}

}  // namespace rankine
