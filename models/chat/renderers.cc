#include "models/chat/renderers.h"

#include "models/tokenizer/unicode.h"
#include "models/tokenizer/utf8.h"

namespace rankine::chat {
namespace {

constexpr char kAlternate[] = "Conversation roles must alternate user/assistant/user/assistant/...";

// What Python's str.strip() takes off: White_Space and the four information separators.
bool IsPythonSpace(char32_t c) { return tokenizer::IsWhiteSpace(c) || (c >= 0x1C && c <= 0x1F); }

std::string Strip(std::string_view text) {
  size_t begin = 0;
  size_t end = 0;  // past the last character that is no space
  bool started = false;
  for (size_t at = 0; at < text.size();) {
    const tokenizer::Utf8Step step = tokenizer::NextUtf8(text.substr(at));
    const bool is_space =
        step.kind == tokenizer::Utf8Step::Kind::kValid && IsPythonSpace(step.code_point);
    if (!is_space) {
      if (!started) begin = at;
      started = true;
      end = at + step.num_bytes;
    }
    at += step.num_bytes;
  }
  return started ? std::string(text.substr(begin, end - begin)) : std::string();
}

bool Alternates(const ChatMessage& message, size_t index) {
  return (message.role == "user") == (index % 2 == 0);
}

void ChatMlTurn(const std::string& role, const std::string& content, SegmentWriter* out) {
  out->Control("<|im_start|>");
  out->Text(role + "\n" + content);
  out->Control("<|im_end|>");
  out->Text("\n");
}

void Llama3Header(const std::string& role, SegmentWriter* out) {
  out->Control("<|start_header_id|>");
  out->Text(role);
  out->Control("<|end_header_id|>");
  out->Text("\n\n");
}

// The messages of `args` after a leading system message, and that message (null when there is
// none).
struct SystemSplit {
  const ChatMessage* system = nullptr;
  absl::Span<const ChatMessage> rest;
};

SystemSplit SplitSystem(const RenderArgs& args) {
  if (args.messages[0].role != "system") return {nullptr, args.messages};
  return {&args.messages[0], args.messages.subspan(1)};
}

absl::Status RenderPlainMistral(const RenderArgs& args, std::string_view after_answer,
                                SegmentWriter* out) {
  out->Control(args.tokens.bos);
  for (size_t i = 0; i < args.messages.size(); ++i) {
    const ChatMessage& message = args.messages[i];
    if (!Alternates(message, i)) return absl::InvalidArgumentError(kAlternate);
    if (message.role == "user") {
      out->Text("[INST] " + message.content + " [/INST]");
    } else if (message.role == "assistant") {
      out->Text(message.content);
      out->Control(args.tokens.eos);
      out->Text(after_answer);
    } else {
      return absl::InvalidArgumentError("Only user and assistant roles are supported!");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RenderChatMl(const RenderArgs& args, SegmentWriter* out) {
  for (const ChatMessage& message : args.messages) ChatMlTurn(message.role, message.content, out);
  if (args.add_generation_prompt) {
    out->Control("<|im_start|>");
    out->Text("assistant\n");
  }
  return absl::OkStatus();
}

absl::Status RenderSmolLm2(const RenderArgs& args, SegmentWriter* out) {
  if (args.messages[0].role != "system") {
    ChatMlTurn("system", "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
               out);
  }
  return RenderChatMl(args, out);
}

absl::Status RenderLlama2(const RenderArgs& args, SegmentWriter* out) {
  const SystemSplit split = SplitSystem(args);
  for (size_t i = 0; i < split.rest.size(); ++i) {
    const ChatMessage& message = split.rest[i];
    if (!Alternates(message, i)) return absl::InvalidArgumentError(kAlternate);
    std::string content = message.content;
    if (i == 0 && split.system != nullptr) {
      content = "<<SYS>>\n" + split.system->content + "\n<</SYS>>\n\n" + content;
    }
    if (message.role == "user") {
      out->Control(args.tokens.bos);
      out->Text("[INST] " + Strip(content) + " [/INST]");
    } else if (message.role == "assistant") {
      out->Text(" " + Strip(content) + " ");
      out->Control(args.tokens.eos);
    }
  }
  return absl::OkStatus();
}

absl::Status RenderLlama3(const RenderArgs& args, SegmentWriter* out) {
  out->Control(args.tokens.bos);
  for (const ChatMessage& message : args.messages) {
    Llama3Header(message.role, out);
    out->Text(Strip(message.content));
    out->Control("<|eot_id|>");
  }
  if (args.add_generation_prompt) Llama3Header("assistant", out);
  return absl::OkStatus();
}

absl::Status RenderLlama3AlwaysPrompting(const RenderArgs& args, SegmentWriter* out) {
  return RenderLlama3({args.messages, args.tokens, true}, out);
}

absl::Status RenderZephyr(const RenderArgs& args, SegmentWriter* out) {
  for (const ChatMessage& message : args.messages) {
    const std::string& role = message.role;
    if (role != "user" && role != "system" && role != "assistant") continue;
    out->Control("<|" + role + "|>");
    out->Text("\n" + message.content);
    out->Control(args.tokens.eos);
    out->Text("\n");
  }
  if (args.add_generation_prompt) {
    out->Control("<|assistant|>");
    out->Text("\n");
  }
  return absl::OkStatus();
}

absl::Status RenderMistral(const RenderArgs& args, SegmentWriter* out) {
  return RenderPlainMistral(args, "", out);
}

absl::Status RenderMistralV01(const RenderArgs& args, SegmentWriter* out) {
  return RenderPlainMistral(args, " ", out);
}

absl::Status RenderMistralSystem(const RenderArgs& args, SegmentWriter* out) {
  const SystemSplit split = SplitSystem(args);
  out->Control(args.tokens.bos);
  for (size_t i = 0; i < split.rest.size(); ++i) {
    const ChatMessage& message = split.rest[i];
    if (!Alternates(message, i)) {
      return absl::InvalidArgumentError(
          "After the optional system message, conversation roles must alternate "
          "user/assistant/user/assistant/...");
    }
    if (message.role == "user") {
      const bool with_system = i == 0 && split.system != nullptr;
      out->Text(" [INST] " + (with_system ? split.system->content + "\n\n" : "") + message.content +
                " [/INST]");
    } else if (message.role == "assistant") {
      out->Text(" " + message.content);
      out->Control(args.tokens.eos);
    } else {
      return absl::InvalidArgumentError(
          "Only user and assistant roles are supported, with the exception of an initial optional "
          "system message!");
    }
  }
  return absl::OkStatus();
}

absl::Status RenderGemmaWithoutBos(const RenderArgs& args, SegmentWriter* out) {
  if (args.messages[0].role == "system") {
    return absl::InvalidArgumentError("System role not supported");
  }
  for (size_t i = 0; i < args.messages.size(); ++i) {
    const ChatMessage& message = args.messages[i];
    if (!Alternates(message, i)) return absl::InvalidArgumentError(kAlternate);
    out->Control("<start_of_turn>");
    out->Text((message.role == "assistant" ? "model" : message.role) + "\n" +
              Strip(message.content));
    out->Control("<end_of_turn>");
    out->Text("\n");
  }
  if (args.add_generation_prompt) {
    out->Control("<start_of_turn>");
    out->Text("model\n");
  }
  return absl::OkStatus();
}

absl::Status RenderGemma(const RenderArgs& args, SegmentWriter* out) {
  out->Control(args.tokens.bos);
  return RenderGemmaWithoutBos(args, out);
}

}  // namespace rankine::chat
