// What a caller asks for in text terms, and what comes back piece by piece: the same values for the
// server, its client and generation in process. Plain values.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "models/chat/chat_format.h"
#include "runtime/engine/request.h"

namespace rankine {

struct TextPrompt {
  std::string text;
  bool parse_special = false;  // control tokens spelled out in the text become those tokens
};

// std::monostate = none was given. Token ids are taken as they are: nothing is added.
using Prompt =
    std::variant<std::monostate, TextPrompt, std::vector<ChatMessage>, std::vector<int32_t>>;

struct GenerateParams {
  Prompt prompt;
  int64_t max_tokens = 0;  // 0 = the default of the limits
  SamplingParams sampling;
  std::vector<std::string> stop;  // the text ends before the first of these
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
};

// What became known since the last piece.
struct Piece {
  std::vector<int32_t> token_ids;
  std::string text;  // whole UTF-8 characters

  // The last piece only.
  FinishReason finish_reason = FinishReason::kNone;
  std::string error;  // kError only
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  RequestTiming timing;

  bool empty() const {
    return token_ids.empty() && text.empty() && finish_reason == FinishReason::kNone;
  }
};

// Receives pieces as they come; returning false cancels the request.
using PieceCallback = std::function<bool(const Piece&)>;

}  // namespace rankine
