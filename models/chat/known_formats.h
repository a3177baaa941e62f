// The published templates and what each of them renders.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "models/chat/chat_format.h"

namespace rankine::chat {

struct RenderArgs {
  absl::Span<const ChatMessage> messages;  // at least one
  const ChatTokens& tokens;
  bool add_generation_prompt;
};

// Joins neighbouring text, so that the tokenizer sees it in one piece: only control tokens split a
// prompt.
class SegmentWriter {
 public:
  void Text(std::string_view text);
  void Control(std::string_view text);
  std::vector<ChatSegment> Take() { return std::move(segments_); }

 private:
  std::vector<ChatSegment> segments_;
};

struct KnownFormat {
  const char* name;
  // With \n written as an escape in the template's strings; the text with line breaks there instead
  // is known too.
  const char* template_text;
  absl::Status (*render)(const RenderArgs& args, SegmentWriter* out);
};

absl::Span<const KnownFormat> KnownFormats();

}  // namespace rankine::chat
