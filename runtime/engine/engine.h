// Runs a model for many requests at once: continuous batching over a paged KV cache, on a thread of
// its own. Loop: drain the inbox, schedule, forward, sample, publish. Submit and Cancel may be
// called from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/engine/request.h"
#include "runtime/engine/token_stream.h"
#include "runtime/model.h"

namespace rankine {

struct EngineOptions {
  DType kv_dtype = DType::kF16;
  // Tokens of KV cache over all sequences; 0 = what kv_cache_bytes holds, but no more than
  // max_running full contexts.
  int64_t kv_cache_tokens = 0;
  int64_t kv_cache_bytes = int64_t{1} << 30;
  int64_t max_batch_tokens = 512;  // token budget of a step: prompts are cut into chunks
  int64_t max_running = 64;        // sequences in a step; at most max_batch_tokens are used
  int64_t max_queued = 1024;       // requests waiting; beyond: kResourceExhausted
  int64_t max_queued_tokens = int64_t{1} << 20;  // of their prompts
};

struct EngineStats {
  int64_t kv_blocks_total = 0;
  int64_t kv_blocks_free = 0;
  int64_t kv_cache_bytes = 0;
  int64_t running = 0;
  int64_t waiting = 0;
  int64_t steps = 0;
  int64_t tokens_generated = 0;
  bool healthy = true;  // false after a step failed
};

class Engine {
 public:
  // `model` outlives the engine. Starts the thread.
  static absl::StatusOr<std::unique_ptr<Engine>> Start(const Model& model,
                                                       const EngineOptions& options);
  // Stops at once: running requests finish as kCancelled.
  ~Engine();

  // An answer ends with kLength where max_new_tokens or the context is reached.
  // kInvalidArgument: an empty prompt, max_new_tokens < 1, a token outside the vocabulary, a bad
  // sampling parameter, or a prompt that leaves no room for an answer in max_context().
  // kResourceExhausted: the queue is full. kUnavailable: draining or stopping.
  absl::StatusOr<std::shared_ptr<TokenStream>> Submit(Request request,
                                                      std::function<void()> notify = {});
  // Frees the request's KV blocks within one step; its stream ends with kCancelled (or kStopString
  // when the session found one). Unknown and finished ids are ignored.
  void Cancel(uint64_t id, FinishReason reason = FinishReason::kCancelled);

  // No new requests; those admitted run on.
  void Drain();
  // True when no request is queued or running.
  bool Idle() const;
  // Blocks until idle or until `timeout_ms` passed; true when idle.
  bool WaitIdle(int64_t timeout_ms);

  EngineStats stats() const;
  // As in use: kv_cache_tokens and kv_cache_bytes are those of the cache that was made.
  const EngineOptions& options() const;
  // Tokens that a prompt and its answer may have together: the model's context, or all of the cache
  // where that is smaller.
  int64_t max_context() const;

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace rankine
