// The interface that models/ implements and the engine, evaluation and calibration drive. A model
// knows no request. The engine asks logits of last rows, evaluation of all, calibration goes layer
// by layer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/base/tensor_view.h"
#include "runtime/batch_input.h"
#include "runtime/cache/kv_cache.h"
#include "runtime/device/device.h"

namespace rankine {

// Sizes that schedulers, samplers and caches need.
struct ModelShape {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position = 0;  // context length in tokens
  std::vector<int32_t> eos_ids;
  // Bidirectional: takes no cache, generates nothing, and Head must not be called.
  bool is_encoder = false;
};

struct ForwardLimits {
  int64_t max_tokens = 0;      // rows of a pass
  int64_t max_logit_rows = 0;  // rows of logits of a pass
  int64_t max_context = 0;     // tokens of a sequence, cache included
  // Runs of a pass; 0 = as many as tokens. Encoders keep keys and values in blocks of a run each.
  int64_t max_sequences = 0;
};

// Activations of one pass; owned by the caller, who may run one pass at a time with it.
class Workspace {
 public:
  virtual ~Workspace() = default;
  // The residual stream f32 [max_tokens, hidden_size]: written by Embed, updated by Layer, read by
  // Head. Calibration saves and restores its rows between layers.
  virtual MatrixView hidden() = 0;
  virtual int64_t bytes() const = 0;
};

// Sees the input of each LinearGroup during a pass: calibration.
class ActivationObserver {
 public:
  virtual ~ActivationObserver() = default;
  // `group` is the name of the group's first linear ("model.layers.0.self_attn.q_proj"); x
  // [num_tokens, in_features], f32 or bf16 as the products read it.
  virtual void OnGroupInput(const std::string& group, const MatrixView& x) = 0;
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelShape& shape() const = 0;
  virtual Device& device() const = 0;

  virtual absl::StatusOr<std::unique_ptr<Workspace>> NewWorkspace(
      const ForwardLimits& limits) const = 0;

  // Requires batch sizes within the workspace's limits and ids within the vocabulary.
  virtual void Embed(const BatchInput& batch, Workspace& workspace) const = 0;
  // `cache` holds the keys and values; an encoder takes null. The last Embed of the workspace was
  // of this batch.
  virtual void Layer(int64_t layer, const BatchInput& batch, const KvCache* cache,
                     Workspace& workspace, ActivationObserver* observer = nullptr) const = 0;
  // Logits of batch.logit_rows: f32 [num_logits, vocab_size], valid until the next pass.
  virtual MatrixView Head(const BatchInput& batch, Workspace& workspace) const = 0;

  // Bytes of weights held in memory, and bytes of weights read to decode one token.
  virtual int64_t weight_bytes() const = 0;
  virtual int64_t weight_bytes_per_token() const = 0;
  // Multiplications and additions with weights to decode one token; attention is not counted.
  virtual int64_t operations_per_token() const = 0;
};

// Embed, every layer, Head; an empty view when the batch wants no logits (a prompt's middle chunk).
MatrixView Forward(const Model& model, const BatchInput& batch, const KvCache* cache,
                   Workspace& workspace);

}  // namespace rankine
