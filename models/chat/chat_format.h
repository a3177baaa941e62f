// Chat messages to the prompt that a model was trained on. A format is recognised from the exact
// text of the template that came with the model (several published texts per family); templates are
// not interpreted, so any other text is an error rather than a guess.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "models/tokenizer/tokenizer.h"

namespace rankine {

struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

// A part of a rendered prompt. Control segments come from the template and may become control
// tokens; the others hold what users wrote, and whatever lies beside it in the template, and never
// do.
struct ChatSegment {
  std::string text;
  bool is_control = false;
};

// The texts of the model's tokens that templates refer to; empty where a model has none.
struct ChatTokens {
  std::string bos;
  std::string eos;
};

namespace chat {
struct KnownFormat;
}

// A small value; cheap to copy.
class ChatFormat {
 public:
  explicit ChatFormat(const chat::KnownFormat* known) : known_(known) {}

  // "chatml", "chatml-smollm2", "llama2", "llama3", "zephyr", "mistral", "gemma", ...
  std::string_view name() const;

  // kInvalidArgument, with the template's own words, where the template refuses the messages (roles
  // that do not alternate, a system message that it does not know), and when there is no message.
  absl::StatusOr<std::vector<ChatSegment>> Render(absl::Span<const ChatMessage> messages,
                                                  const ChatTokens& tokens,
                                                  bool add_generation_prompt) const;

 private:
  const chat::KnownFormat* known_;  // static
};

// kUnimplemented when the text is none of the known templates.
absl::StatusOr<ChatFormat> RecogniseChatFormat(std::string_view template_text);

// The template of a folder: chat_template.jinja, or chat_template in tokenizer_config.json.
// kNotFound when neither is there: the model is no chat model.
absl::StatusOr<std::string> LoadChatTemplate(const std::string& folder);

// The ids of the prompt, as transformers' apply_chat_template gives them, but for content that
// spells control tokens: here it stays text.
absl::StatusOr<std::vector<int32_t>> EncodeChat(const Tokenizer& tokenizer,
                                                const ChatFormat& format,
                                                absl::Span<const ChatMessage> messages,
                                                bool add_generation_prompt);

}  // namespace rankine
