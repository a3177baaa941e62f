#include "serving/prompt.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "models/tokenizer/utf8.h"

namespace rankine {
namespace {

template <class... Args>
absl::Status Invalid(const Args&... args) {
  return absl::InvalidArgumentError(absl::StrCat(args...));
}

bool IsUtf8(std::string_view text) { return tokenizer::ReplaceInvalidUtf8(text) == text; }

absl::Status ValidateChat(const std::vector<ChatMessage>& messages) {
  if (messages.empty()) return Invalid("chat.messages: at least one message is needed");
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role != "system" && role != "user" && role != "assistant") {
      return Invalid("chat.messages[", i, "].role: must be system, user or assistant, not \"",
                     role.substr(0, 32), "\"");
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateIds(const std::vector<int32_t>& ids, std::string_view field,
                         int64_t vocab_size) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size) {
      return Invalid(std::string(field), "[", i, "]: ", ids[i], " is outside the vocabulary of ",
                     vocab_size, " tokens");
    }
  }
  return absl::OkStatus();
}

absl::Status ValidatePrompt(const Prompt& prompt, const RequestLimits& limits) {
  if (std::holds_alternative<std::monostate>(prompt)) {
    return Invalid("prompt: one of text, chat or tokens must be set");
  }
  const int64_t bytes = PromptTextBytes(prompt);
  if (bytes > limits.max_text_bytes) {
    return Invalid(std::holds_alternative<TextPrompt>(prompt) ? "text" : "chat.messages", ": ",
                   bytes, " bytes are over the limit of ", limits.max_text_bytes);
  }
  if (const auto* messages = std::get_if<std::vector<ChatMessage>>(&prompt)) {
    return ValidateChat(*messages);
  }
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&prompt)) {
    if (ids->empty()) return Invalid("tokens.ids: at least one token is needed");
    return ValidateIds(*ids, "tokens.ids", limits.vocab_size);
  }
  return absl::OkStatus();
}

absl::Status ValidateSampling(const SamplingParams& sampling) {
  // Negated comparisons, so that NaN fails too.
  if (!(sampling.temperature >= 0) || !std::isfinite(sampling.temperature)) {
    return Invalid("sampling.temperature: must be a finite number, at least 0, not ",
                   sampling.temperature);
  }
  if (sampling.top_k < 0) {
    return Invalid("sampling.top_k: must be at least 0, not ", sampling.top_k);
  }
  if (!(sampling.top_p > 0 && sampling.top_p <= 1)) {
    return Invalid("sampling.top_p: must be above 0 and at most 1, not ", sampling.top_p);
  }
  if (!(sampling.min_p >= 0 && sampling.min_p < 1)) {
    return Invalid("sampling.min_p: must be at least 0 and below 1, not ", sampling.min_p);
  }
  return absl::OkStatus();
}

absl::Status ValidateStops(const GenerateParams& params, const RequestLimits& limits) {
  if (static_cast<int64_t>(params.stop.size()) > limits.max_stop_strings) {
    return Invalid("stop: ", params.stop.size(), " strings are over the limit of ",
                   limits.max_stop_strings);
  }
  for (size_t i = 0; i < params.stop.size(); ++i) {
    const int64_t bytes = static_cast<int64_t>(params.stop[i].size());
    if (bytes == 0 || bytes > limits.max_stop_bytes) {
      return Invalid("stop[", i, "]: must have 1 to ", limits.max_stop_bytes, " bytes, not ",
                     bytes);
    }
    if (!IsUtf8(params.stop[i])) return Invalid("stop[", i, "]: is not UTF-8");
  }
  if (static_cast<int64_t>(params.stop_token_ids.size()) > limits.max_stop_token_ids) {
    return Invalid("stop_token_ids: ", params.stop_token_ids.size(), " ids are over the limit of ",
                   limits.max_stop_token_ids);
  }
  return ValidateIds(params.stop_token_ids, "stop_token_ids", limits.vocab_size);
}

// The field that the prompt came in, for messages.
const char* FieldOf(const Prompt& prompt) {
  if (std::holds_alternative<TextPrompt>(prompt)) return "text";
  return std::holds_alternative<std::vector<ChatMessage>>(prompt) ? "chat.messages" : "tokens.ids";
}

absl::StatusOr<std::vector<int32_t>> ToIds(const Prompt& prompt, const PromptCodec& codec) {
  if (const auto* text = std::get_if<TextPrompt>(&prompt)) {
    return codec.tokenizer->Encode(text->text,
                                   {.add_special = true, .parse_special = text->parse_special});
  }
  if (const auto* messages = std::get_if<std::vector<ChatMessage>>(&prompt)) {
    if (!codec.chat_format) {
      return Invalid("chat: ", codec.chat_error, "; send text instead");
    }
    absl::StatusOr<std::vector<int32_t>> ids =
        EncodeChat(*codec.tokenizer, *codec.chat_format, *messages, /*add_generation_prompt=*/true);
    if (absl::IsInvalidArgument(ids.status())) {
      return Invalid("chat.messages: ", ids.status().message());
    }
    return ids;
  }
  return std::get<std::vector<int32_t>>(prompt);
}

}  // namespace

int64_t PromptTextBytes(const Prompt& prompt) {
  if (const auto* text = std::get_if<TextPrompt>(&prompt)) {
    return static_cast<int64_t>(text->text.size());
  }
  int64_t bytes = 0;
  if (const auto* messages = std::get_if<std::vector<ChatMessage>>(&prompt)) {
    for (const ChatMessage& message : *messages) {
      bytes += static_cast<int64_t>(message.role.size() + message.content.size());
    }
  }
  return bytes;
}

absl::Status Validate(const GenerateParams& params, const RequestLimits& limits) {
  if (absl::Status status = ValidatePrompt(params.prompt, limits); !status.ok()) return status;
  if (params.max_tokens < 0 || params.max_tokens > limits.context_length) {
    return Invalid("max_tokens: must be 0 (the default, ", limits.default_max_tokens, ") to ",
                   limits.context_length, ", the model's context, not ", params.max_tokens);
  }
  if (absl::Status status = ValidateSampling(params.sampling); !status.ok()) return status;
  return ValidateStops(params, limits);
}

absl::StatusOr<std::vector<int32_t>> EncodePrompt(const Prompt& prompt, const PromptCodec& codec,
                                                  const RequestLimits& limits) {
  absl::StatusOr<std::vector<int32_t>> ids = ToIds(prompt, codec);
  if (!ids.ok()) return ids;
  if (ids->empty()) return Invalid(FieldOf(prompt), ": the prompt has no tokens");
  if (static_cast<int64_t>(ids->size()) >= limits.context_length) {
    return Invalid(FieldOf(prompt), ": ", ids->size(),
                   " tokens leave no room for an answer in the ", "model's context of ",
                   limits.context_length);
  }
  return ids;
}

absl::StatusOr<Request> MakeRequest(const GenerateParams& params, const PromptCodec& codec,
                                    const RequestLimits& limits) {
  if (absl::Status status = Validate(params, limits); !status.ok()) return status;
  absl::StatusOr<std::vector<int32_t>> ids = EncodePrompt(params.prompt, codec, limits);
  if (!ids.ok()) return ids.status();
  const int64_t room = limits.context_length - static_cast<int64_t>(ids->size());
  const int64_t wanted = params.max_tokens > 0 ? params.max_tokens : limits.default_max_tokens;
  return Request{.prompt = *std::move(ids),
                 .max_new_tokens = std::min(wanted, room),
                 .sampling = params.sampling,
                 .stop_token_ids = params.stop_token_ids,
                 .ignore_eos = params.ignore_eos};
}

}  // namespace rankine
