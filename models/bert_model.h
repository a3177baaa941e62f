// The BERT model in memory: what bert_loader.cc fills and bert.cc runs. Not for users: they take
// loader.h.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "models/activations.h"
#include "models/loader.h"
#include "runtime/cache/kv_cache.h"

namespace rankine {

struct BertNorm {
  Buffer weight, bias;  // f32 [hidden]
};

struct BertLayer {
  LinearGroup qkv, attention_output, intermediate, output;
  BertNorm attention_norm, output_norm;
};

// Activations of a pass. Keys and values of the one layer that runs stand in a cache of its own,
// each sequence in blocks of its own.
class BertWorkspace : public Workspace {
 public:
  MatrixView hidden() override { return hidden_view; }
  int64_t bytes() const override {
    int64_t total = keys_values->bytes();
    for (const Buffer& b : buffers) total += b.bytes();
    return total;
  }

  ForwardLimits limits;
  std::vector<Buffer> buffers;
  MatrixView hidden_view;      // f32 [max_tokens, hidden]
  GroupInputMemory input;      // what a group reads
  void* group = nullptr;       // workspace of the groups' plans
  float* projected = nullptr;  // f32 [max_tokens, widest group output]
  void* attention = nullptr;   // scratch of the attention op
  std::optional<KvCache> keys_values;

  // Of the batch, by Embed.
  std::vector<int32_t> block_ids;
  std::vector<int64_t> slots;                // [t]
  std::vector<AttentionSequence> sequences;  // with the block ids here
  std::vector<int32_t> token_types;          // [t]
};

class BertModel : public FactoredModel {
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
  friend class BertLoader;
  using Ws = BertWorkspace;

  void PlaceSequences(const BatchInput& batch, Ws& ws) const;
  void Norm(const BertNorm& norm, const MatrixView& x) const;
  // The residual stream as the group reads it.
  GroupInput HiddenFor(const LinearGroup& group, int64_t rows, Ws& ws,
                       const ActivationObserver* observer) const;
  void RunGroup(const LinearGroup& group, const GroupInput& x, Ws& ws, const MatrixView& y,
                bool accumulate, ActivationObserver* observer) const;
  // [rows, output columns of the group] in ws.projected.
  MatrixView ProjectedBy(const LinearGroup& group, int64_t rows, Ws& ws) const;
  void Attention(const BertLayer& layer, int64_t rows, Ws& ws, ActivationObserver* observer) const;
  void Mlp(const BertLayer& layer, int64_t rows, Ws& ws, ActivationObserver* observer) const;

  Device* device_ = nullptr;
  ModelConfig config_;
  ModelShape shape_;
  LinearGroup words_, positions_, types_;
  BertNorm embedding_norm_;
  std::vector<BertLayer> layers_;
};

}  // namespace rankine
