// The tokenizer.* keys of a GGUF file.
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "models/checkpoint/gguf_config.h"

namespace rankine {
namespace {

constexpr char kTokensKey[] = "tokenizer.ggml.tokens";

// Reads keys into fields and keeps the first failure.
class VocabularyReader {
 public:
  VocabularyReader(const GgufMetadata& metadata, GgufVocabulary* vocabulary)
      : metadata_(metadata), vocabulary_(*vocabulary) {}

  absl::Status Read() {
    String("tokenizer.ggml.pre", &vocabulary_.pre);
    String("tokenizer.chat_template", &vocabulary_.chat_template);
    Strings(kTokensKey, &vocabulary_.tokens);
    Strings("tokenizer.ggml.merges", &vocabulary_.merges);
    if (status_.ok() && vocabulary_.tokens.empty()) Fail(kTokensKey, "is missing or empty");
    if (vocabulary_.tokens.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
      Fail(kTokensKey, "has more than 2^31 - 1 tokens");
    }
    Scores();
    TokenTypes();
    Id("tokenizer.ggml.bos_token_id", &vocabulary_.bos_id);
    Id("tokenizer.ggml.eos_token_id", &vocabulary_.eos_id);
    Id("tokenizer.ggml.unknown_token_id", &vocabulary_.unknown_id);
    Id("tokenizer.ggml.padding_token_id", &vocabulary_.padding_id);
    // What llama.cpp does when a file does not say: sentencepiece and Llama 3 vocabularies begin
    // with BOS.
    const bool is_sentencepiece = vocabulary_.model == "llama";
    vocabulary_.add_bos = is_sentencepiece || vocabulary_.pre == "llama-bpe" ||
                          vocabulary_.pre == "llama3" || vocabulary_.pre == "llama-v3";
    vocabulary_.add_space_prefix = is_sentencepiece;
    Bool("tokenizer.ggml.add_bos_token", &vocabulary_.add_bos);
    Bool("tokenizer.ggml.add_eos_token", &vocabulary_.add_eos);
    Bool("tokenizer.ggml.add_space_prefix", &vocabulary_.add_space_prefix);
    return status_;
  }

 private:
  void Fail(const char* key, const std::string& what) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrCat("key '", key, "' ", what));
  }

  // The value of a getter's result; empty when absent or failed.
  template <class T>
  T Take(absl::StatusOr<T> value) {
    if (value.ok()) return *std::move(value);
    if (status_.ok()) status_ = value.status();
    return T{};
  }

  void String(const char* key, std::string* out) {
    if (auto value = Take(metadata_.String(key))) *out = *std::move(value);
  }

  void Bool(const char* key, bool* out) {
    if (const auto value = Take(metadata_.Bool(key))) *out = *value;
  }

  void Strings(const char* key, std::vector<std::string>* out) {
    if (const auto* value = Take(metadata_.Strings(key))) *out = *value;
  }

  void CheckSize(const char* key, size_t size) {
    if (size != vocabulary_.tokens.size()) {
      Fail(key, absl::StrCat("has ", size, " elements for ", vocabulary_.tokens.size(), " tokens"));
    }
  }

  void Scores() {
    constexpr char kKey[] = "tokenizer.ggml.scores";
    const auto scores = Take(metadata_.Numbers(kKey));
    if (!scores.has_value()) return;
    CheckSize(kKey, scores->size());
    for (const double score : *scores) {
      if (!std::isfinite(score)) return Fail(kKey, "has a score that is not finite");
      vocabulary_.scores.push_back(static_cast<float>(score));
    }
  }

  void TokenTypes() {
    constexpr char kKey[] = "tokenizer.ggml.token_type";
    const auto types = Take(metadata_.Ints(kKey));
    if (!types.has_value()) {
      vocabulary_.token_types.assign(vocabulary_.tokens.size(), 1);
      return;
    }
    CheckSize(kKey, types->size());
    for (const int64_t type : *types) {
      if (type < 0 || type > 6) return Fail(kKey, absl::StrCat("has the unknown type ", type));
      vocabulary_.token_types.push_back(static_cast<int32_t>(type));
    }
  }

  void Id(const char* key, int32_t* out) {
    const auto value = Take(metadata_.Int(key));
    // Writers say "none" with -1, also as an unsigned number.
    if (!value.has_value() || *value == -1 || *value == std::numeric_limits<uint32_t>::max())
      return;
    if (*value < 0 || *value >= static_cast<int64_t>(vocabulary_.tokens.size())) {
      return Fail(key, absl::StrCat("is ", *value, ", but there are ", vocabulary_.tokens.size(),
                                    " tokens"));
    }
    *out = static_cast<int32_t>(*value);
  }

  const GgufMetadata& metadata_;
  GgufVocabulary& vocabulary_;
  absl::Status status_;
};

}  // namespace

absl::StatusOr<std::optional<GgufVocabulary>> ReadGgufVocabulary(const GgufMetadata& metadata) {
  const auto model = metadata.String("tokenizer.ggml.model");
  if (!model.ok()) return model.status();
  // "no_vocab" is how llama.cpp's converter marks a file without a tokenizer.
  if (!model->has_value() || **model == "no_vocab" || **model == "none") return std::nullopt;
  GgufVocabulary vocabulary;
  vocabulary.model = **model;
  const absl::Status status = VocabularyReader(metadata, &vocabulary).Read();
  if (!status.ok()) return status;
  return vocabulary;
}

}  // namespace rankine
