// What all calls of one server share.
#pragma once

#include <functional>
#include <limits>

#include "runtime/engine/engine.h"
#include "serving/call_registry.h"
#include "serving/model_description.h"
#include "serving/prompt.h"
#include "serving/worker_pool.h"

namespace rankine {

struct ServingContext {
  ServingContext(Engine& the_engine, int encode_threads, int64_t max_encodes_queued)
      : engine(the_engine),
        encode_pool(encode_threads, max_encodes_queued),
        // A call is queued at most once, so the number of calls bounds this queue.
        stream_pool(1, std::numeric_limits<int64_t>::max()) {}

  Engine& engine;
  PromptCodec codec;
  RequestLimits limits;
  ModelDescription model;
  // Texts up to this size are tokenised in the reaction itself: 4 KiB take well under a
  // millisecond.
  int64_t inline_text_bytes = 4096;
  // Called when a request failed inside the engine, for readiness to follow.
  std::function<void()> on_engine_error;

  CallRegistry calls;
  WorkerPool encode_pool;  // large texts to tokens
  WorkerPool stream_pool;  // new tokens to messages, so that the engine's thread never does
};

}  // namespace rankine
