#include "models/tokenizer/wordpiece_vocabulary.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

namespace rankine::tokenizer {
namespace {

const std::string& Or(const std::string& value, const std::string& fallback) {
  return value.empty() ? fallback : value;
}

}  // namespace

absl::StatusOr<BpeTokenizerSpec> SpecFromVocabularyText(std::string_view text,
                                                        const TokenizerConfig& config) {
  BpeTokenizerSpec spec;
  absl::flat_hash_map<std::string, int32_t> ids;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string token(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!token.empty() && token.back() == '\r') token.pop_back();
    const auto id = static_cast<int32_t>(spec.model.vocabulary.size());
    if (id >= kMaxVocabulary) return absl::InvalidArgumentError("vocab.txt: too many lines");
    if (!ids.emplace(token, id).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("vocab.txt: line ", id + 1, ": the token \"", token, "\" occurs twice"));
    }
    spec.model.vocabulary.emplace_back(std::move(token), id);
  }
  // transformers' defaults.
  spec.model.unknown_token = Or(config.unknown_token, "[UNK]");
  const std::string cls = Or(config.cls_token, "[CLS]"), sep = Or(config.sep_token, "[SEP]");
  for (const std::string& needed : {spec.model.unknown_token, cls, sep}) {
    if (ids.contains(needed)) continue;
    return absl::InvalidArgumentError(absl::StrCat("vocab.txt: no line is ", needed));
  }
  for (const std::string& token :
       {spec.model.unknown_token, cls, sep, Or(config.padding_token, "[PAD]"),
        Or(config.mask_token, "[MASK]")}) {
    if (!ids.contains(token)) continue;
    spec.added_tokens.push_back({.id = ids[token], .content = token, .special = true});
  }
  NormalizerStep step{};
  step.kind = NormalizerStep::Kind::kBert;
  step.bert = {.space_around_chinese = config.tokenize_chinese_chars.value_or(true),
               .strip_accents = config.strip_accents,
               .lowercase = config.do_lower_case.value_or(true)};
  spec.normalizer.push_back(std::move(step));
  PreTokenizerStep split{};
  split.kind = PreTokenizerStep::Kind::kBert;
  spec.pre_tokenizer.push_back(std::move(split));
  spec.word_piece.emplace();
  spec.decoder.push_back({TokenTextStep::Kind::kWordPiece, "##", "", /*cleanup=*/true});
  spec.strip_leading_space = true;
  spec.special_ids = {.bos = ids[cls], .eos = ids[sep], .unknown = ids[spec.model.unknown_token]};
  if (const auto padding = ids.find(Or(config.padding_token, "[PAD]")); padding != ids.end())
    spec.special_ids.padding = padding->second;
  spec.prefix = {ids[cls]};
  spec.suffix = {ids[sep]};
  return spec;
}

}  // namespace rankine::tokenizer
