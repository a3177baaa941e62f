// A request inside the engine: its tokens, its place in the cache, the way to its client. Made by
// Submit, then owned by the engine thread alone.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/engine/request.h"
#include "runtime/engine/token_stream.h"

namespace rankine {

struct Sequence {
  using Clock = std::chrono::steady_clock;

  uint64_t id = 0;
  SamplingParams sampling;
  std::vector<int32_t> stop_ids;  // sorted: those of the request, and the model's unless ignore_eos
  int64_t prompt_tokens = 0;
  int64_t max_new_tokens = 0;      // at least 1; the context has room for them
  int64_t blocks_needed = 0;       // for the prompt and the longest answer
  std::vector<int32_t> tokens;     // the prompt and the answer; its memory is there from the start
  int64_t cached_tokens = 0;       // the first of them, whose keys and values are in the cache
  std::vector<int32_t> block_ids;  // owned, from admission to the end
  // True once finite logits were computed from all cached tokens, so that none left a NaN in them.
  bool cache_is_clean = true;
  std::shared_ptr<TokenStream> stream;
  Clock::time_point submitted, started, first_token;

  int64_t num_tokens() const { return static_cast<int64_t>(tokens.size()); }
  int64_t pending_tokens() const { return num_tokens() - cached_tokens; }
  int64_t new_tokens() const { return num_tokens() - prompt_tokens; }
  bool decoding() const { return new_tokens() > 0; }
};

}  // namespace rankine
