#include "runtime/engine/engine.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/math.h"
#include "runtime/engine/engine_loop.h"
#include "runtime/engine/inbox.h"
#include "runtime/engine/sampler.h"

namespace rankine {
namespace {

// More tokens than any machine has memory for, and few enough that sums of them do not overflow.
constexpr int64_t kMaxCacheTokens = int64_t{1} << 40;

absl::Status ValidateOptions(const EngineOptions& options) {
  const std::pair<const char*, int64_t> positive[] = {
      {"kv_cache_bytes", options.kv_cache_bytes},
      {"max_batch_tokens", options.max_batch_tokens},
      {"max_running", options.max_running},
      {"max_queued", options.max_queued},
      {"max_queued_tokens", options.max_queued_tokens}};
  for (const auto& [name, value] : positive) {
    if (value < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("engine option ", name, " is ", value, "; it must be at least 1"));
    }
  }
  if (options.kv_cache_tokens < 0) {
    return absl::InvalidArgumentError(absl::StrCat("engine option kv_cache_tokens is ",
                                                   options.kv_cache_tokens,
                                                   "; it must be 0 (from kv_cache_bytes) or more"));
  }
  if (options.kv_cache_tokens > kMaxCacheTokens) {
    return absl::InvalidArgumentError(absl::StrCat("engine option kv_cache_tokens is ",
                                                   options.kv_cache_tokens, "; it must be at most ",
                                                   kMaxCacheTokens));
  }
  return absl::OkStatus();
}

// More blocks than max_running sequences of full length need would never be used.
absl::StatusOr<int64_t> NumBlocks(const ModelShape& shape, const KvCacheOptions& cache,
                                  const EngineOptions& options) {
  if (options.kv_cache_tokens > 0) return CeilDiv(options.kv_cache_tokens, kKvBlockTokens);
  int64_t block_bytes = 0;
  if (!CheckedMul(KvCache::BytesPerToken(cache), kKvBlockTokens, &block_bytes) ||
      block_bytes > options.kv_cache_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("a KV cache of ", options.kv_cache_bytes,
                                                   " bytes does not hold ", kKvBlockTokens,
                                                   " tokens of this model; raise kv_cache_bytes"));
  }
  int64_t most = 0;
  if (!CheckedMul(CeilDiv(shape.max_position, kKvBlockTokens), options.max_running, &most)) {
    most = options.kv_cache_bytes / block_bytes;
  }
  return std::min(options.kv_cache_bytes / block_bytes, most);
}

absl::Status CheckIds(const std::vector<int32_t>& ids, int64_t vocab_size, const char* what) {
  for (int32_t id : ids) {
    if (id >= 0 && id < vocab_size) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(what, " ", id, " is outside the vocabulary of ", vocab_size, " tokens"));
  }
  return absl::OkStatus();
}

}  // namespace

class Engine::Impl {
 public:
  Impl(const Model& model, const EngineOptions& options, int64_t max_context, KvCache cache,
       std::unique_ptr<Workspace> workspace)
      : model_(model),
        options_(options),
        max_context_(max_context),
        inbox_(options),
        loop_(model,
              {.max_batch_tokens = options.max_batch_tokens, .max_running = options.max_running},
              std::move(cache), std::move(workspace), &inbox_),
        thread_([this] { loop_.Run(); }) {}

  ~Impl() {
    inbox_.Stop();
    thread_.join();
  }

  absl::StatusOr<std::shared_ptr<TokenStream>> Submit(Request request,
                                                      std::function<void()> notify) {
    if (absl::Status status = Validate(request); !status.ok()) return status;
    auto sequence = std::make_unique<Sequence>();
    sequence->id = next_id_.fetch_add(1, std::memory_order_relaxed);
    sequence->sampling = request.sampling;
    sequence->stop_ids = StopIds(request);
    sequence->prompt_tokens = static_cast<int64_t>(request.prompt.size());
    sequence->max_new_tokens =
        std::min(request.max_new_tokens, max_context_ - sequence->prompt_tokens);
    const int64_t most_tokens = sequence->prompt_tokens + sequence->max_new_tokens;
    // The last token of an answer is never computed on.
    sequence->blocks_needed = CeilDiv(most_tokens - 1, kKvBlockTokens);
    sequence->tokens = std::move(request.prompt);
    sequence->tokens.reserve(most_tokens);
    auto stream =
        std::make_shared<TokenStream>(sequence->id, sequence->max_new_tokens, std::move(notify));
    sequence->stream = stream;
    sequence->submitted = Sequence::Clock::now();
    if (absl::Status status = inbox_.Push(std::move(sequence)); !status.ok()) return status;
    return stream;
  }

  Inbox& inbox() { return inbox_; }
  const EngineOptions& options() const { return options_; }
  int64_t max_context() const { return max_context_; }

 private:
  absl::Status Validate(const Request& request) const {
    const int64_t vocab_size = model_.shape().vocab_size;
    const int64_t prompt_tokens = static_cast<int64_t>(request.prompt.size());
    if (request.prompt.empty()) {
      return absl::InvalidArgumentError("the prompt has no tokens; it needs at least one");
    }
    if (request.max_new_tokens < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("max_new_tokens is ", request.max_new_tokens, "; it must be at least 1"));
    }
    if (prompt_tokens >= max_context_) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the prompt has ", prompt_tokens, " tokens; with an answer of at least one, ",
          "the context holds ", max_context_ - 1,
          max_context_ < model_.shape().max_position ? " (the KV cache is the limit; enlarge it)"
                                                     : ""));
    }
    if (absl::Status s = CheckIds(request.prompt, vocab_size, "prompt token"); !s.ok()) return s;
    if (absl::Status s = CheckIds(request.stop_token_ids, vocab_size, "stop token"); !s.ok()) {
      return s;
    }
    return ValidateSampling(request.sampling);
  }

  std::vector<int32_t> StopIds(const Request& request) const {
    std::vector<int32_t> ids = request.stop_token_ids;
    const std::vector<int32_t>& eos = model_.shape().eos_ids;
    if (!request.ignore_eos) ids.insert(ids.end(), eos.begin(), eos.end());
    std::sort(ids.begin(), ids.end());
    return ids;
  }

  const Model& model_;
  const EngineOptions options_;
  const int64_t max_context_;
  std::atomic<uint64_t> next_id_{1};
  Inbox inbox_;
  EngineLoop loop_;
  std::thread thread_;
};

absl::StatusOr<std::unique_ptr<Engine>> Engine::Start(const Model& model,
                                                      const EngineOptions& options) {
  if (absl::Status status = ValidateOptions(options); !status.ok()) return status;
  const ModelShape& shape = model.shape();
  if (shape.is_encoder) {
    return absl::InvalidArgumentError(
        "the model is an encoder, which generates no text; rankine embed gives its embeddings");
  }
  EngineOptions resolved = options;
  resolved.max_running = std::min(options.max_running, options.max_batch_tokens);
  KvCacheOptions cache_options = {.num_layers = shape.num_layers,
                                  .kv_heads = shape.kv_heads,
                                  .head_dim = shape.head_dim,
                                  .dtype = options.kv_dtype};
  absl::StatusOr<int64_t> num_blocks = NumBlocks(shape, cache_options, resolved);
  if (!num_blocks.ok()) return num_blocks.status();
  cache_options.num_blocks = *num_blocks;
  absl::StatusOr<KvCache> cache = KvCache::Create(model.device(), cache_options);
  if (!cache.ok()) return cache.status();
  resolved.kv_cache_tokens = *num_blocks * kKvBlockTokens;
  resolved.kv_cache_bytes = cache->bytes();
  const int64_t max_context = std::min(shape.max_position, resolved.kv_cache_tokens);
  absl::StatusOr<std::unique_ptr<Workspace>> workspace =
      model.NewWorkspace({.max_tokens = resolved.max_batch_tokens,
                          .max_logit_rows = resolved.max_running,
                          .max_context = max_context});
  if (!workspace.ok()) return workspace.status();
  return std::unique_ptr<Engine>(new Engine(std::make_unique<Impl>(
      model, resolved, max_context, std::move(*cache), std::move(*workspace))));
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

absl::StatusOr<std::shared_ptr<TokenStream>> Engine::Submit(Request request,
                                                            std::function<void()> notify) {
  return impl_->Submit(std::move(request), std::move(notify));
}

void Engine::Cancel(uint64_t id, FinishReason reason) {
  impl_->inbox().Cancel({.id = id, .reason = reason});
}

void Engine::Drain() { impl_->inbox().Drain(); }
bool Engine::Idle() const { return impl_->inbox().WaitIdle(0); }
bool Engine::WaitIdle(int64_t timeout_ms) { return impl_->inbox().WaitIdle(timeout_ms); }
EngineStats Engine::stats() const { return impl_->inbox().stats(); }
const EngineOptions& Engine::options() const { return impl_->options(); }
int64_t Engine::max_context() const { return impl_->max_context(); }

}  // namespace rankine
