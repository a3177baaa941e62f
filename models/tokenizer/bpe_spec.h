// Everything that makes a BPE or WordPiece tokenizer, as plain values: read from tokenizer.json,
// from vocab.txt or from a GGUF vocabulary, written as tokenizer.json (BPE), and built into a
// Tokenizer.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "models/tokenizer/added_tokens.h"
#include "models/tokenizer/bpe.h"
#include "models/tokenizer/gguf_vocabulary.h"
#include "models/tokenizer/normalizer.h"
#include "models/tokenizer/pre_tokenizer.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/wordpiece.h"

namespace rankine::tokenizer {

// How the text of one token follows from its spelling.
struct TokenTextStep {
  enum class Kind { kByteLevel, kReplace, kByteFallback, kWordPiece };
  Kind kind;
  std::string from;      // kReplace; kWordPiece: the prefix inside words, where no space comes
  std::string to;        // kReplace
  bool cleanup = false;  // kWordPiece: no space before punctuation
};

struct BpeTokenizerSpec {
  std::vector<AddedToken> added_tokens;
  std::vector<NormalizerStep> normalizer;
  std::vector<PreTokenizerStep> pre_tokenizer;
  BpeSpec model;
  // Set: a WordPiece model with the vocabulary and unknown token of `model`.
  std::optional<WordPieceSpec> word_piece;
  std::vector<TokenTextStep> decoder;
  bool strip_leading_space = false;
  // What the post-processor puts around a text.
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
  SpecialTokenIds special_ids;
};

// No vocabulary is larger; a larger id is a mistake or an attack on memory.
inline constexpr int64_t kMaxVocabulary = int64_t{1} << 22;

// `json` is the text of a tokenizer.json.
absl::StatusOr<BpeTokenizerSpec> ReadBpeSpec(std::string_view json);
// `vocabulary.model` is "gpt2".
absl::StatusOr<BpeTokenizerSpec> BpeSpecFromGguf(const GgufVocabulary& vocabulary);

// The text of a tokenizer.json.
std::string WriteBpeSpec(const BpeTokenizerSpec& spec);

absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeBpeTokenizer(BpeTokenizerSpec spec);

}  // namespace rankine::tokenizer
