#include "models/text.h"

#include <filesystem>
#include <string>

#include "absl/status/status.h"

namespace rankine {

absl::StatusOr<std::unique_ptr<const Tokenizer>> TokenizerOf(const Checkpoint& checkpoint) {
  if (checkpoint.gguf_vocabulary() != nullptr) return MakeTokenizer(*checkpoint.gguf_vocabulary());
  for (const char* name : {"/tokenizer.json", "/tokenizer.model", "/vocab.txt"}) {
    std::error_code ignored;
    if (!checkpoint.folder().empty() &&
        std::filesystem::exists(checkpoint.folder() + name, ignored))
      return LoadTokenizer(checkpoint.folder());
  }
  return absl::InvalidArgumentError(
      checkpoint.config().random_weights
          ? "the model has no tokenizer: its weights are random, only `rankine bench` makes sense"
          : "the model has no tokenizer");
}

absl::StatusOr<ChatFormat> ChatFormatOf(const Checkpoint& checkpoint) {
  if (checkpoint.gguf_vocabulary() == nullptr) {
    if (checkpoint.folder().empty()) return absl::NotFoundError("the file has no chat template");
    auto text = LoadChatTemplate(checkpoint.folder());
    if (!text.ok()) return text.status();
    return RecogniseChatFormat(*text);
  }
  const std::string& text = checkpoint.gguf_vocabulary()->chat_template;
  if (text.empty())
    return absl::NotFoundError("the file has no tokenizer.chat_template: it is no chat model");
  return RecogniseChatFormat(text);
}

}  // namespace rankine
