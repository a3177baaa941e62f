#include "tools/eval/window_runner.h"

#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"

namespace rankine {

absl::StatusOr<WindowRunner> WindowRunner::Create(const Model& model,
                                                  const WindowRunnerOptions& options) {
  const ModelShape& shape = model.shape();
  if (options.window_tokens > shape.max_position) {
    return absl::InvalidArgumentError(absl::StrCat("a window of ", options.window_tokens,
                                                   " tokens exceeds the model's context of ",
                                                   shape.max_position));
  }
  WindowRunner runner;
  runner.model_ = &model;
  runner.options_ = options;
  runner.blocks_per_window_ = CeilDiv(options.window_tokens, kKvBlockTokens);
  runner.block_ids_.resize(runner.blocks_per_window_ * options.windows_per_pass);
  std::iota(runner.block_ids_.begin(), runner.block_ids_.end(), 0);
  const ForwardLimits limits = {.max_tokens = options.window_tokens * options.windows_per_pass,
                                .max_logit_rows = options.max_logit_rows,
                                .max_context = options.window_tokens,
                                .max_sequences = options.windows_per_pass};
  auto workspace = model.NewWorkspace(limits);
  if (!workspace.ok()) return workspace.status();
  runner.workspace_ = *std::move(workspace);
  if (shape.is_encoder) return runner;
  auto cache =
      KvCache::Create(model.device(), {.num_layers = shape.num_layers,
                                       .kv_heads = shape.kv_heads,
                                       .head_dim = shape.head_dim,
                                       .num_blocks = static_cast<int64_t>(runner.block_ids_.size()),
                                       .dtype = options.kv_dtype});
  if (!cache.ok()) return cache.status();
  runner.cache_ = std::make_unique<KvCache>(*std::move(cache));
  return runner;
}

void WindowRunner::Begin(absl::Span<const absl::Span<const int32_t>> windows) {
  RK_CHECK(static_cast<int64_t>(windows.size()) <= options_.windows_per_pass);
  batch_.Clear();
  for (size_t w = 0; w < windows.size(); ++w) {
    RK_CHECK(static_cast<int64_t>(windows[w].size()) <= options_.window_tokens);
    const int32_t* blocks = block_ids_.data() + static_cast<int64_t>(w) * blocks_per_window_;
    batch_.AddSequence(windows[w].data(), static_cast<int64_t>(windows[w].size()), 0,
                       cache_ == nullptr ? nullptr : blocks);
  }
}

void WindowRunner::Forward() {
  Embed();
  for (int64_t layer = 0; layer < model_->shape().num_layers; ++layer) Layer(layer);
}

MatrixView WindowRunner::hidden() {
  MatrixView view = workspace_->hidden();
  view.rows = rows();
  return view;
}

MatrixView WindowRunner::Logits(int64_t first, int64_t count) {
  RK_CHECK(count <= options_.max_logit_rows && first + count <= rows());
  batch_.logit_rows.resize(count);
  std::iota(batch_.logit_rows.begin(), batch_.logit_rows.end(), static_cast<int32_t>(first));
  return model_->Head(batch_, *workspace_);
}

}  // namespace rankine
