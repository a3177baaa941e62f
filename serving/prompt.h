// From what a caller sent to a request of the engine: bounds are checked, text becomes token ids.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/chat/chat_format.h"
#include "models/tokenizer/tokenizer.h"
#include "runtime/engine/request.h"
#include "serving/generate.h"

namespace rankine {

// What a request may ask for. The last two are the model's, and must be set.
struct RequestLimits {
  int64_t default_max_tokens = 512;
  // Of the text of a prompt, or of all messages of a chat together. Keeps every answer of Tokenize
  // below gRPC's usual limit of 4 MiB: a token of at least one byte takes at most 3 bytes as a
  // varint.
  int64_t max_text_bytes = int64_t{1} << 20;
  int64_t max_stop_strings = 16;
  int64_t max_stop_bytes = 256;  // of one stop string
  int64_t max_stop_token_ids = 64;
  int64_t context_length = 0;  // tokens of prompt and answer together
  int64_t vocab_size = 0;
};

// How prompts become tokens; cheap to copy.
struct PromptCodec {
  const Tokenizer* tokenizer = nullptr;   // outlives the codec and its copies
  std::optional<ChatFormat> chat_format;  // absent: chats are refused
  // Why it is absent: no template, or one that was not recognised.
  std::string chat_error = "the model has no chat template";
};

// kInvalidArgument names the field, as inference.proto spells it. Everything but the number of
// tokens of a text is checked; cheap.
absl::Status Validate(const GenerateParams& params, const RequestLimits& limits);

// The prompt as token ids; kInvalidArgument when it has none or leaves no room for an answer.
// The work grows with the text.
absl::StatusOr<std::vector<int32_t>> EncodePrompt(const Prompt& prompt, const PromptCodec& codec,
                                                  const RequestLimits& limits);

// Bytes of text that EncodePrompt would look at.
int64_t PromptTextBytes(const Prompt& prompt);

// Validate, EncodePrompt and defaults: what Engine::Submit takes.
absl::StatusOr<Request> MakeRequest(const GenerateParams& params, const PromptCodec& codec,
                                    const RequestLimits& limits);

}  // namespace rankine
