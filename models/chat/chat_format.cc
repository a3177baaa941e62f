#include "models/chat/chat_format.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "models/chat/known_formats.h"
#include "models/files/text_file.h"
#include "models/tokenizer/tokenizer_config.h"

namespace rankine {
namespace chat {

void SegmentWriter::Text(std::string_view text) {
  if (text.empty()) return;
  if (segments_.empty() || segments_.back().is_control) segments_.push_back({"", false});
  segments_.back().text.append(text);
}

void SegmentWriter::Control(std::string_view text) {
  if (!text.empty()) segments_.push_back({std::string(text), true});
}

}  // namespace chat

namespace {

// \n in the strings of a known template as line breaks: the same template, written in the other
// way.
std::string WithLineBreaks(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i, 2) == "\\n") {
      out.push_back('\n');
      ++i;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

std::string TokenPiece(const Tokenizer& tokenizer, std::optional<int32_t> id) {
  return id.has_value() ? std::string(tokenizer.Piece(*id)) : std::string();
}

absl::Status AppendText(const Tokenizer& tokenizer, std::string* text, std::vector<int32_t>* ids) {
  if (text->empty()) return absl::OkStatus();
  absl::StatusOr<std::vector<int32_t>> encoded =
      tokenizer.Encode(*text, {.add_special = false, .parse_special = false});
  if (!encoded.ok()) return encoded.status();
  ids->insert(ids->end(), encoded->begin(), encoded->end());
  text->clear();
  return absl::OkStatus();
}

}  // namespace

std::string_view ChatFormat::name() const { return known_->name; }

absl::StatusOr<std::vector<ChatSegment>> ChatFormat::Render(absl::Span<const ChatMessage> messages,
                                                            const ChatTokens& tokens,
                                                            bool add_generation_prompt) const {
  if (messages.empty()) return absl::InvalidArgumentError("a chat needs at least one message");
  chat::SegmentWriter writer;
  absl::Status status = known_->render({messages, tokens, add_generation_prompt}, &writer);
  if (!status.ok()) return status;
  return writer.Take();
}

absl::StatusOr<ChatFormat> RecogniseChatFormat(std::string_view template_text) {
  // Jinja drops one line break at the end of a template.
  if (!template_text.empty() && template_text.back() == '\n') template_text.remove_suffix(1);
  std::string names;
  for (const chat::KnownFormat& known : chat::KnownFormats()) {
    if (template_text == known.template_text ||
        template_text == WithLineBreaks(known.template_text)) {
      return ChatFormat(&known);
    }
    absl::StrAppend(&names, names.empty() ? "" : ", ", known.name);
  }
  constexpr size_t kShown = 80;
  return absl::UnimplementedError(absl::StrCat(
      "this chat template is not supported: \"", std::string(template_text.substr(0, kShown)),
      template_text.size() > kShown ? "...\"" : "\"", " (known: ", names, ")"));
}

absl::StatusOr<std::string> LoadChatTemplate(const std::string& folder) {
  absl::StatusOr<std::string> text = ReadTextFile(folder + "/chat_template.jinja");
  if (!absl::IsNotFound(text.status())) return text;
  absl::StatusOr<tokenizer::TokenizerConfig> config = tokenizer::ReadTokenizerConfig(folder);
  if (!config.ok()) return config.status();
  if (config->chat_template.has_value()) return *config->chat_template;
  return absl::NotFoundError(absl::StrCat(
      folder,
      ": no chat template (chat_template.jinja, or chat_template in tokenizer_config.json)"));
}

absl::StatusOr<std::vector<int32_t>> EncodeChat(const Tokenizer& tokenizer,
                                                const ChatFormat& format,
                                                absl::Span<const ChatMessage> messages,
                                                bool add_generation_prompt) {
  const ChatTokens tokens = {TokenPiece(tokenizer, tokenizer.special_ids().bos),
                             TokenPiece(tokenizer, tokenizer.special_ids().eos)};
  absl::StatusOr<std::vector<ChatSegment>> segments =
      format.Render(messages, tokens, add_generation_prompt);
  if (!segments.ok()) return segments.status();
  std::vector<int32_t> ids;
  std::string text;
  for (const ChatSegment& segment : *segments) {
    const std::optional<int32_t> id =
        segment.is_control ? tokenizer.TokenId(segment.text) : std::nullopt;
    if (!id.has_value() || !tokenizer.IsSpecial(*id)) {
      // A marker that this model spells in ordinary tokens (Zephyr's <|user|>) is text like the
      // rest.
      text += segment.text;
      continue;
    }
    if (absl::Status status = AppendText(tokenizer, &text, &ids); !status.ok()) return status;
    ids.push_back(*id);
  }
  if (absl::Status status = AppendText(tokenizer, &text, &ids); !status.ok()) return status;
  return ids;
}

}  // namespace rankine
