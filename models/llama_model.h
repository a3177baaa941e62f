// The Llama model in memory: what llama_loader.cc fills and llama.cc runs. Not for users: they take
// loader.h.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "models/activations.h"
#include "models/loader.h"

namespace rankine {

struct LlamaLayer {
  Buffer input_norm;           // f32 [hidden]
  Buffer post_attention_norm;  // f32 [hidden]
  LinearGroup qkv, o, gate_up, down;
};

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
  MatrixView hidden_view;      // f32 [max_tokens, hidden]
  GroupInputMemory input;      // what a group reads
  void* group = nullptr;       // workspace of the groups' plans
  float* projected = nullptr;  // f32 [max_tokens, widest group output]
  float* cos = nullptr;        // f32 [max_tokens, head_dim / 2]
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
  int64_t operations_per_token() const override;
  std::vector<const LinearGroup*> groups() const override;

 private:
  friend class LlamaLoader;
  using Ws = LlamaWorkspace;

  int64_t MaxInputColumns() const;
  // Where the op before a group writes what it reads, in the forms that it and the observer need.
  GroupInput InputOf(const LinearGroup& group, int64_t rows, Ws& ws,
                     const ActivationObserver* observer) const;
  void RunGroup(const LinearGroup& group, const GroupInput& x, Ws& ws, const MatrixView& y,
                bool accumulate, ActivationObserver* observer) const;
  void Norm(const MatrixView& x, const Buffer& weight, const GroupInput& out) const;
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

}  // namespace rankine
