// What a caller asks of the engine, and what it gets back. Plain values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rankine {

struct SamplingParams {
  float temperature = 0;  // 0 = greedy
  int32_t top_k = 0;      // 0 = off
  float top_p = 1;        // 1 = off
  float min_p = 0;        // 0 = off
  uint64_t seed = 0;      // the random stream belongs to the request: (seed, index of the token)
};

struct Request {
  std::vector<int32_t> prompt;  // at least one token
  int64_t max_new_tokens = 0;
  SamplingParams sampling;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;  // go on past the model's end-of-sequence tokens
};

enum class FinishReason : uint8_t { kNone, kStopToken, kStopString, kLength, kCancelled, kError };
// "stop_token", "stop_string", "length", "cancelled", "error"; "" for kNone.
const char* Name(FinishReason reason);

// Microseconds since Submit; reported with the end of a stream. 0 for what was never reached.
struct RequestTiming {
  int64_t queue_us = 0;        // until its first token was computed on
  int64_t first_token_us = 0;  // until its first new token
  int64_t total_us = 0;
};

// What a TokenStream yields: new tokens, and at the end the reason. The token that stopped a
// sequence (EOS or a stop token) is among token_ids.
struct TokenEvents {
  std::vector<int32_t> token_ids;
  FinishReason finish_reason = FinishReason::kNone;
  std::string error;  // kError only
  RequestTiming timing;
};

}  // namespace rankine
