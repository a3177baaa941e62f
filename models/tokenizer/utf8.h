// UTF-8 as the tokenizers need it: one code point at a time, with invalid bytes replaced as Python
// does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace rankine::tokenizer {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

struct Utf8Step {
  enum class Kind { kValid, kInvalid, kIncomplete };
  Kind kind;
  size_t num_bytes;  // of the character, or of the maximal subpart of an ill-formed one
  char32_t code_point;
};

// Looks at the first character of `text`, which must not be empty. kIncomplete: all of `text` is
// the start of a valid character.
Utf8Step NextUtf8(std::string_view text);

void AppendUtf8(char32_t code_point, std::string* out);

// Moves all decided characters of `*bytes` to `*out`, ill-formed ones as U+FFFD, one for each
// maximal subpart (Unicode, section 3.9, the practice that Python follows); what stays is the start
// of a character.
void TakeWholeCharacters(std::string* bytes, std::string* out);

// The same for a text that is complete.
std::string ReplaceInvalidUtf8(std::string_view text);

// `text` must be valid UTF-8.
std::u32string ToCodePoints(std::string_view text);

}  // namespace rankine::tokenizer
