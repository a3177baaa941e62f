#include "models/tokenizer/utf8.h"

namespace rankine::tokenizer {
namespace {

uint8_t Byte(std::string_view text, size_t i) { return static_cast<uint8_t>(text[i]); }

// The range of the second byte depends on the first: it excludes overlong forms, surrogates and
// what lies past U+10FFFF (Unicode, table 3-7).
struct SecondByteRange {
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
};

SecondByteRange SecondBytes(uint8_t first) {
  switch (first) {
    case 0xE0:
      return {0xA0, 0xBF};
    case 0xED:
      return {0x80, 0x9F};
    case 0xF0:
      return {0x90, 0xBF};
    case 0xF4:
      return {0x80, 0x8F};
    default:
      return {};
  }
}

size_t SequenceLength(uint8_t first) {
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return 2;
  if (first >= 0xE0 && first <= 0xEF) return 3;
  if (first >= 0xF0 && first <= 0xF4) return 4;
  return 0;
}

}  // namespace

Utf8Step NextUtf8(std::string_view text) {
  using Kind = Utf8Step::Kind;
  const uint8_t first = Byte(text, 0);
  const size_t length = SequenceLength(first);
  if (length == 0) return {Kind::kInvalid, 1, kReplacementCharacter};
  if (length == 1) return {Kind::kValid, 1, first};
  char32_t code_point = first & (0x7Fu >> length);
  const SecondByteRange second = SecondBytes(first);
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Kind::kIncomplete, i, kReplacementCharacter};
    const uint8_t byte = Byte(text, i);
    const uint8_t low = i == 1 ? second.low : 0x80;
    const uint8_t high = i == 1 ? second.high : 0xBF;
    if (byte < low || byte > high) return {Kind::kInvalid, i, kReplacementCharacter};
    code_point = (code_point << 6) | (byte & 0x3Fu);
  }
  return {Kind::kValid, length, code_point};
}

void AppendUtf8(char32_t code_point, std::string* out) {
  if (code_point < 0x80) {
    out->push_back(static_cast<char>(code_point));
  } else if (code_point < 0x800) {
    out->push_back(static_cast<char>(0xC0 | (code_point >> 6)));
    out->push_back(static_cast<char>(0x80 | (code_point & 0x3F)));
  } else if (code_point < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | (code_point >> 12)));
    out->push_back(static_cast<char>(0x80 | ((code_point >> 6) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code_point & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | (code_point >> 18)));
    out->push_back(static_cast<char>(0x80 | ((code_point >> 12) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | ((code_point >> 6) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code_point & 0x3F)));
  }
}

void TakeWholeCharacters(std::string* bytes, std::string* out) {
  std::string_view rest = *bytes;
  while (!rest.empty()) {
    const Utf8Step step = NextUtf8(rest);
    if (step.kind == Utf8Step::Kind::kIncomplete) break;
    if (step.kind == Utf8Step::Kind::kValid) {
      out->append(rest.substr(0, step.num_bytes));
    } else {
      AppendUtf8(kReplacementCharacter, out);
    }
    rest.remove_prefix(step.num_bytes);
  }
  bytes->erase(0, bytes->size() - rest.size());
}

std::string ReplaceInvalidUtf8(std::string_view text) {
  std::string rest(text);
  std::string out;
  out.reserve(text.size());
  TakeWholeCharacters(&rest, &out);
  if (!rest.empty()) AppendUtf8(kReplacementCharacter, &out);
  return out;
}

std::u32string ToCodePoints(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    out.push_back(step.code_point);
    text.remove_prefix(step.num_bytes);
  }
  return out;
}

}  // namespace rankine::tokenizer
