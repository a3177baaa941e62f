// Unicode properties and normal forms (utf8proc's tables).
#pragma once

#include <string>
#include <string_view>

namespace rankine::tokenizer {

bool IsWhiteSpace(char32_t code_point);
// General category N: what Rust's char::is_numeric says.
bool IsNumeric(char32_t code_point);
// General categories P and Mn.
bool IsPunctuation(char32_t code_point);
bool IsNonspacingMark(char32_t code_point);
// General categories Cc, Cf and Co: control, format and private use.
bool IsControl(char32_t code_point);
// A word character of a regular expression: Alphabetic, Mark, Decimal_Number,
// Connector_Punctuation, Join_Control.
bool IsWord(char32_t code_point);

// Number of bytes of white space at either end; all arguments are valid UTF-8.
size_t LeadingSpaceBytes(std::string_view text);
size_t TrailingSpaceBytes(std::string_view text);

std::string ToLower(std::string_view text);

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
std::string ToNormalForm(std::string_view text, NormalForm form);

}  // namespace rankine::tokenizer
