// Text to token ids and back. Tokenizers are made from a Hugging Face folder (tokenizer.json or
// tokenizer.model) or from the vocabulary of a GGUF file; all give the ids that Hugging Face's
// `tokenizers` or sentencepiece give.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "models/tokenizer/gguf_vocabulary.h"

namespace rankine {

// What one call of Encode did; tests use it to prove that work does not grow with the square of the
// text.
struct EncodeStats {
  int64_t queue_operations = 0;  // pushes and pops of the merge queue
};

struct EncodeOptions {
  bool add_special = true;     // BOS and EOS, where the model's post-processor adds them
  bool parse_special = false;  // control tokens spelled out in the text become those tokens
  EncodeStats* stats = nullptr;
};

// Ids of the tokens with a role; absent where the model names none.
struct SpecialTokenIds {
  std::optional<int32_t> bos;
  std::optional<int32_t> eos;
  std::optional<int32_t> unknown;
  std::optional<int32_t> padding;
};

// Immutable and thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Bytes of `text` that are not UTF-8 count as U+FFFD. Unless `parse_special`, no control token
  // ever comes out of the text, whatever it says; added tokens that are not special (user-defined
  // ones) are always matched.
  virtual absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text,
                                                      const EncodeOptions& options) const = 0;

  // One more than the largest id.
  virtual int64_t vocab_size() const = 0;
  // The id of a token as the vocabulary spells it ("<|im_end|>", "\u0120the").
  virtual std::optional<int32_t> TokenId(std::string_view piece) const = 0;
  // As the vocabulary spells it; empty when there is no such id.
  virtual std::string_view Piece(int32_t id) const = 0;
  // True for control tokens (BOS, EOS, <|im_start|>, ...).
  virtual bool IsSpecial(int32_t id) const = 0;
  // The text of one token; may be part of a character. Empty when there is no such id. Valid as
  // long as *this.
  virtual std::string_view TokenBytes(int32_t id) const = 0;
  // True when the text of a sequence loses one leading space: sentencepiece puts one before the
  // text.
  virtual bool StripsLeadingSpace() const = 0;

  const SpecialTokenIds& special_ids() const { return special_ids_; }

  // Invalid UTF-8 becomes U+FFFD as Python's errors="replace" does (one for each maximal subpart).
  // Ids outside the vocabulary give no text.
  std::string Decode(absl::Span<const int32_t> ids, bool skip_special) const;

 protected:
  SpecialTokenIds special_ids_;
};

// Decodes one sequence as it grows: the pieces and the flush add up to Decode of the whole.
// One per session; not thread-safe. The tokenizer must outlive it.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(&tokenizer),
        skip_special_(skip_special),
        strip_space_(tokenizer.StripsLeadingSpace()) {}

  // The whole characters that `id` completes; invalid bytes become U+FFFD as soon as that is
  // certain.
  std::string Append(int32_t id);
  // What is left when the sequence ends: U+FFFD for an incomplete character, or nothing.
  std::string Flush();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  bool strip_space_;     // a leading space is still to be removed
  std::string pending_;  // the start of a character, at most 3 bytes
};

// Reads tokenizer.json, tokenizer.model or vocab.txt (WordPiece), the first that is there, and
// tokenizer_config.json of a folder.
// What the files ask for and this engine does not have is an error that names it.
absl::StatusOr<std::unique_ptr<const Tokenizer>> LoadTokenizer(const std::string& folder);

absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeTokenizer(const GgufVocabulary& vocabulary);

// Writes tokenizer.json (byte-level BPE) or tokenizer.model (sentencepiece), and
// tokenizer_config.json with the chat template, as Hugging Face's libraries read them.
absl::Status WriteTokenizer(const GgufVocabulary& vocabulary, const std::string& folder);

// The text of a tokenizer.json whose 256 tokens are the bytes themselves, in their order: for
// models that know no language.
std::string ByteTokenizerText();

}  // namespace rankine
