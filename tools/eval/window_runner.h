// Runs windows of tokens through a model without an engine: every window a sequence of its own that
// starts at position 0, several in a pass. Evaluation uses whole passes, calibration one layer of
// one pass at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/model.h"

namespace rankine {

// Tokens of a pass: where the products reach their full speed (bench/micro).
inline constexpr int64_t kPassTokens = 512;
// Rows whose logits are held at a time.
inline constexpr int64_t kLogitRows = 64;

struct WindowRunnerOptions {
  int64_t window_tokens = 512;  // the longest window
  int64_t windows_per_pass = 1;
  int64_t max_logit_rows = 1;  // of one call of Logits
  DType kv_dtype = DType::kF32;
};

// Owns the activations and the cache of one pass. Move-only; one thread. The model outlives it.
class WindowRunner {
 public:
  // kInvalidArgument when a window exceeds the model's context; kResourceExhausted without memory.
  static absl::StatusOr<WindowRunner> Create(const Model& model,
                                             const WindowRunnerOptions& options);

  // Starts a pass over these windows (at most windows_per_pass): fills the batch. Rows of the pass
  // are the windows' tokens one after another.
  void Begin(absl::Span<const absl::Span<const int32_t>> windows);
  void Embed() { model_->Embed(batch_, *workspace_); }
  void Layer(int64_t layer, ActivationObserver* observer = nullptr) {
    model_->Layer(layer, batch_, cache_.get(), *workspace_, observer);
  }
  // Embed and all layers.
  void Forward();

  // The residual stream of this pass [rows, hidden], with padded rows.
  MatrixView hidden();
  // Logits of rows [first, first + count) of this pass; count within max_logit_rows. Valid until
  // the next call.
  MatrixView Logits(int64_t first, int64_t count);

  int64_t rows() const { return batch_.num_tokens(); }

 private:
  WindowRunner() = default;

  const Model* model_ = nullptr;
  WindowRunnerOptions options_;
  std::unique_ptr<KvCache> cache_;  // null for an encoder
  std::unique_ptr<Workspace> workspace_;
  std::vector<int32_t> block_ids_;  // of all windows of a pass, blocks_per_window_ each
  int64_t blocks_per_window_ = 0;
  BatchInput batch_;
};

}  // namespace rankine
