// A compiled regular expression over UTF-8 text (PCRE2 with its JIT: GPT patterns need look-ahead,
// which RE2 lacks). \s and \S mean Unicode White_Space, as in the engines behind Hugging Face's
// `tokenizers`.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace rankine::tokenizer {

struct TextRange {
  size_t begin;
  size_t end;
};

// Thread-safe; cheap to copy.
class Regex {
 public:
  static absl::StatusOr<Regex> Compile(const std::string& pattern);
  // Matches `text` itself, letter by letter.
  static absl::StatusOr<Regex> CompileLiteral(std::string_view text);

  // Appends all matches that do not overlap, in order. `text` must be valid UTF-8. kInvalidArgument
  // when a pattern needs more steps on this text than the limit (a pattern that explodes).
  absl::Status FindAll(std::string_view text, std::vector<TextRange>* matches) const;

  const std::string& pattern() const;

 private:
  struct Code;
  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  std::shared_ptr<const Code> code_;
};

}  // namespace rankine::tokenizer
