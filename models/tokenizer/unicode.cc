#include "models/tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/base/check.h"
#include "models/tokenizer/utf8.h"

namespace rankine::tokenizer {
namespace {

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

int CombiningClass(int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

// Stable sort of each run of combining marks. utf8proc's own ordering swaps neighbours, which takes
// quadratic time on a long run of marks; so characters are decomposed one by one and ordered here.
void OrderMarks(std::vector<int32_t>* points) {
  auto begin = points->begin();
  while (begin != points->end()) {
    if (CombiningClass(*begin) == 0) {
      ++begin;
      continue;
    }
    const auto end = std::find_if(begin, points->end(),
                                  [](int32_t point) { return CombiningClass(point) == 0; });
    std::stable_sort(begin, end,
                     [](int32_t a, int32_t b) { return CombiningClass(a) < CombiningClass(b); });
    begin = end;
  }
}

std::vector<int32_t> Decompose(std::string_view text, bool compatibility) {
  constexpr int kMaxDecomposition = 32;  // Unicode's longest is 18 (U+FDFA)
  const int flags = UTF8PROC_DECOMPOSE | (compatibility ? UTF8PROC_COMPAT : 0);
  std::vector<int32_t> points;
  points.reserve(text.size());
  int32_t buffer[kMaxDecomposition];
  for (char32_t point : ToCodePoints(text)) {
    const utf8proc_ssize_t length =
        utf8proc_decompose_char(static_cast<int32_t>(point), buffer, kMaxDecomposition,
                                static_cast<utf8proc_option_t>(flags), nullptr);
    RK_CHECK(length > 0 && length <= kMaxDecomposition);
    points.insert(points.end(), buffer, buffer + length);
  }
  OrderMarks(&points);
  return points;
}

}  // namespace

bool IsWhiteSpace(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool IsNumeric(char32_t code_point) {
  const utf8proc_category_t category = utf8proc_category(static_cast<int32_t>(code_point));
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

bool IsPunctuation(char32_t code_point) {
  const utf8proc_category_t category = utf8proc_category(static_cast<int32_t>(code_point));
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool IsNonspacingMark(char32_t code_point) {
  return utf8proc_category(static_cast<int32_t>(code_point)) == UTF8PROC_CATEGORY_MN;
}

bool IsControl(char32_t code_point) {
  const utf8proc_category_t category = utf8proc_category(static_cast<int32_t>(code_point));
  return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
         category == UTF8PROC_CATEGORY_CO;
}

bool IsWord(char32_t c) {
  if (c == 0x200C || c == 0x200D) return true;
  // Alphabetic characters outside L, Nl and M: circled Latin letters, regional squares.
  if ((c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
      (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189)) {
    return true;
  }
  switch (utf8proc_category(static_cast<int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

size_t LeadingSpaceBytes(std::string_view text) {
  size_t num_bytes = 0;
  while (num_bytes < text.size()) {
    const Utf8Step step = NextUtf8(text.substr(num_bytes));
    if (!IsWhiteSpace(step.code_point)) break;
    num_bytes += step.num_bytes;
  }
  return num_bytes;
}

size_t TrailingSpaceBytes(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t begin = end - 1;
    while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
    if (!IsWhiteSpace(NextUtf8(text.substr(begin)).code_point)) break;
    end = begin;
  }
  return text.size() - end;
}

std::string ToLower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (char32_t point : ToCodePoints(text)) {
    if (point == 0x130) {  // the one character whose lower case is two: i and a dot above
      out += "i\xCC\x87";
    } else {
      AppendUtf8(static_cast<char32_t>(utf8proc_tolower(static_cast<int32_t>(point))), &out);
    }
  }
  return out;
}

std::string ToNormalForm(std::string_view text, NormalForm form) {
  if (IsAscii(text)) return std::string(text);
  const bool compatibility = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const bool compose = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  std::vector<int32_t> points = Decompose(text, compatibility);
  if (compose) {
    const utf8proc_ssize_t length = utf8proc_normalize_utf32(
        points.data(), static_cast<utf8proc_ssize_t>(points.size()),
        static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    RK_CHECK(length >= 0);
    points.resize(static_cast<size_t>(length));
  }
  std::string out;
  out.reserve(text.size());
  for (int32_t point : points) AppendUtf8(static_cast<char32_t>(point), &out);
  return out;
}

}  // namespace rankine::tokenizer
