#include "models/tokenizer/wordpiece.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "models/tokenizer/bert_unicode.h"
#include "models/tokenizer/unicode.h"
#include "models/tokenizer/utf8.h"

namespace rankine::tokenizer {
namespace {

bool IsContinuation(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) == 0x80; }

// Of BERT's BasicTokenizer; the last but one range begins where `tokenizers` lets it begin.
bool IsChinese(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B81F) ||
         (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
         (c >= 0x2F800 && c <= 0x2FA1F);
}

std::string CleanText(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char32_t c : ToCodePoints(text)) {
    if (c == 0 || c == kReplacementCharacter || IsBertControl(c)) continue;
    AppendUtf8(IsWhiteSpace(c) ? U' ' : c, &out);
  }
  return out;
}

std::string SpaceAroundChinese(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char32_t c : ToCodePoints(text)) {
    const bool chinese = IsChinese(c);
    if (chinese) out += ' ';
    AppendUtf8(c, &out);
    if (chinese) out += ' ';
  }
  return out;
}

std::string StripAccents(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char32_t c : ToCodePoints(ToNormalForm(text, NormalForm::kNfd))) {
    if (!IsBertMark(c)) AppendUtf8(c, &out);
  }
  return out;
}

}  // namespace

absl::StatusOr<WordPiece> WordPiece::Create(const BpeSpec& vocabulary, const WordPieceSpec& spec,
                                            const std::vector<int32_t>& hidden) {
  WordPiece model;
  model.spec_ = spec;
  const absl::flat_hash_set<int32_t> control(hidden.begin(), hidden.end());
  for (const auto& [piece, id] : vocabulary.vocabulary) {
    if (piece == vocabulary.unknown_token) model.unknown_id_ = id;
    if (piece.empty() || control.contains(id)) continue;
    model.ids_.emplace(piece, id);
    model.longest_token_ = std::max(model.longest_token_, piece.size());
  }
  if (model.unknown_id_ >= 0) return model;
  return absl::InvalidArgumentError(absl::StrCat("the unknown token \"", vocabulary.unknown_token,
                                                 "\" of a WordPiece model is not in its "
                                                 "vocabulary"));
}

std::optional<WordPiece::Match> WordPiece::LongestMatch(std::string_view rest,
                                                        bool inside_word) const {
  const std::string prefix = inside_word ? spec_.continuing_prefix : "";
  if (longest_token_ < prefix.size()) return std::nullopt;
  std::string candidate = absl::StrCat(prefix, absl::string_view(rest.data(), rest.size()));
  size_t size = std::min(rest.size(), longest_token_ - prefix.size());
  for (; size > 0; --size) {
    if (size < rest.size() && IsContinuation(rest[size])) continue;
    candidate.resize(prefix.size() + size);
    if (const auto found = ids_.find(candidate); found != ids_.end()) {
      return Match{found->second, size};
    }
  }
  return std::nullopt;
}

void WordPiece::Encode(std::string_view word, std::vector<int32_t>* ids) const {
  const auto characters =
      std::count_if(word.begin(), word.end(), [](char byte) { return !IsContinuation(byte); });
  const size_t before = ids->size();
  for (size_t at = 0; at < word.size() && characters <= spec_.max_characters;) {
    const std::optional<Match> match = LongestMatch(word.substr(at), at > 0);
    if (!match) break;
    ids->push_back(match->id);
    at += match->bytes;
    if (at == word.size()) return;
  }
  if (word.empty()) return;
  ids->resize(before);
  ids->push_back(unknown_id_);
}

std::string BertNormalize(std::string_view text, const BertNormalizerOptions& options) {
  std::string out(text);
  if (options.clean_text) out = CleanText(out);
  if (options.space_around_chinese) out = SpaceAroundChinese(out);
  if (options.strip_accents.value_or(options.lowercase)) out = StripAccents(out);
  if (options.lowercase) out = ToLower(out);
  return out;
}

std::vector<std::string> BertSplit(std::string_view text) {
  std::vector<std::string> words;
  bool in_word = false;
  for (const char32_t c : ToCodePoints(text)) {
    const bool alone = IsBertPunctuation(c), space = IsWhiteSpace(c);
    if (!space) {
      if (!in_word || alone) words.emplace_back();
      AppendUtf8(c, &words.back());
    }
    in_word = !space && !alone;
  }
  return words;
}

}  // namespace rankine::tokenizer
