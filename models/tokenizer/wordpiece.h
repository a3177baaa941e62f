// WordPiece (Schuster & Nakajima 2012, as in BERT): a word is cut greedily into the longest tokens
// of the vocabulary, or is unknown as a whole. With it BERT's normalizer and pre-tokenizer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/tokenizer/bpe.h"

namespace rankine::tokenizer {

struct WordPieceSpec {
  std::string continuing_prefix = "##";  // of a token inside a word
  int64_t max_characters = 100;          // a longer word is unknown
};

// Immutable and thread-safe.
class WordPiece {
 public:
  // Takes vocabulary and unknown token of `vocabulary`. kInvalidArgument when the unknown token is
  // missing. Tokens in `hidden` (control tokens) never come out of Encode.
  static absl::StatusOr<WordPiece> Create(const BpeSpec& vocabulary, const WordPieceSpec& spec,
                                          const std::vector<int32_t>& hidden);

  // Appends the tokens of one word.
  void Encode(std::string_view word, std::vector<int32_t>* ids) const;

 private:
  // The longest token that starts `rest`, and its bytes; absent when there is none.
  struct Match {
    int32_t id;
    size_t bytes;
  };
  std::optional<Match> LongestMatch(std::string_view rest, bool inside_word) const;

  WordPieceSpec spec_;
  absl::flat_hash_map<std::string, int32_t> ids_;
  int32_t unknown_id_ = -1;
  size_t longest_token_ = 0;  // bytes
};

struct BertNormalizerOptions {
  bool clean_text = true;  // control characters vanish, white space becomes a space
  bool space_around_chinese = true;
  std::optional<bool> strip_accents;  // absent = as `lowercase`
  bool lowercase = true;
};

// `text` is valid UTF-8.
std::string BertNormalize(std::string_view text, const BertNormalizerOptions& options);

// Words between white space, each punctuation mark a word of its own.
std::vector<std::string> BertSplit(std::string_view text);

}  // namespace rankine::tokenizer
