// What is done to a text before it is split: the normalizers of tokenizer.json, as a list of steps.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "models/tokenizer/regex.h"
#include "models/tokenizer/wordpiece.h"

namespace rankine::tokenizer {

struct NormalizerStep {
  enum class Kind { kNfc, kNfd, kNfkc, kNfkd, kLowercase, kStrip, kPrepend, kReplace, kBert };
  Kind kind;
  std::string text;            // kPrepend: what; kReplace: the replacement
  std::string literal;         // kReplace: what is replaced, unless `regex` is set
  std::optional<Regex> regex;  // kReplace
  bool strip_left = false;     // kStrip
  bool strip_right = false;
  BertNormalizerOptions bert;  // kBert
};

// `text` must be valid UTF-8 and stays so. `*start_removed` becomes true when the text lost its
// first character to a Strip: what is left then no longer begins where the text began, which
// Metaspace's "first" asks about.
absl::Status Normalize(const std::vector<NormalizerStep>& steps, std::string* text,
                       bool* start_removed);

}  // namespace rankine::tokenizer
