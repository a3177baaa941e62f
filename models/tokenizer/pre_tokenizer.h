// Splits a normalized text into the pieces that BPE merges within: the pre-tokenizers of
// tokenizer.json.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "models/tokenizer/regex.h"

namespace rankine::tokenizer {

struct PreTokenizerStep {
  enum class Kind { kByteLevel, kSplit, kDigits, kMetaspace, kBert };
  enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
  enum class Prepend { kAlways, kFirst, kNever };

  Kind kind;
  // kSplit: the pattern. kByteLevel: GPT-2's pattern when use_regex, else none.
  std::optional<Regex> regex;
  std::string literal;  // kSplit by a plain string; kept to write the file again
  Behavior behavior = Behavior::kIsolated;  // kSplit
  bool invert = false;                      // kSplit: the pattern describes what lies between
  bool add_prefix_space = false;            // kByteLevel
  bool individual_digits = false;           // kDigits
  std::string replacement;                  // kMetaspace: the character for a space
  Prepend prepend = Prepend::kAlways;       // kMetaspace
  bool split = true;                        // kMetaspace
};

struct TextPiece {
  std::string text;
  bool at_start;  // begins where the whole text begins
};

// GPT-2's pattern, which kByteLevel uses.
extern const char kGpt2Pattern[];

// Replaces the pieces by what all steps make of them, in order; no piece is empty.
absl::Status PreTokenize(const std::vector<PreTokenizerStep>& steps,
                         std::vector<TextPiece>* pieces);

}  // namespace rankine::tokenizer
