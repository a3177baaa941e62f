#include "models/tokenizer/tokenizer.h"

#include "models/tokenizer/utf8.h"

namespace rankine {

std::string Tokenizer::Decode(absl::Span<const int32_t> ids, bool skip_special) const {
  StreamDecoder decoder(*this, skip_special);
  std::string text;
  for (int32_t id : ids) text += decoder.Append(id);
  text += decoder.Flush();
  return text;
}

std::string StreamDecoder::Append(int32_t id) {
  if (skip_special_ && tokenizer_->IsSpecial(id)) return std::string();
  std::string_view bytes = tokenizer_->TokenBytes(id);
  if (bytes.empty()) return std::string();
  if (strip_space_) {
    if (bytes.front() == ' ') bytes.remove_prefix(1);
    strip_space_ = false;
  }
  pending_.append(bytes);
  std::string text;
  tokenizer::TakeWholeCharacters(&pending_, &text);
  return text;
}

std::string StreamDecoder::Flush() {
  std::string text = tokenizer::ReplaceInvalidUtf8(pending_);
  pending_.clear();
  strip_space_ = tokenizer_->StripsLeadingSpace();
  return text;
}

}  // namespace rankine
