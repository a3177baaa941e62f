#include "tools/explore/report/svg.h"

#include <cctype>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace rankine {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

// Bytes of the UTF-8 character at text[i]; 0: there is none.
size_t CharacterBytes(std::string_view text, size_t i) {
  const auto byte = [&](size_t k) { return static_cast<unsigned char>(text[k]); };
  const unsigned char first = byte(i);
  const size_t count = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first >= 0x80 && (first < 0xc2 || first > 0xf4)) return 0;
  if (i + count > text.size()) return 0;
  for (size_t k = 1; k < count; ++k) {
    if ((byte(i + k) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, and what is beyond U+10FFFF.
  if (count >= 3) {
    const unsigned char second = byte(i + 1);
    if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
        (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f)) {
      return 0;
    }
    // U+FFFE and U+FFFF.
    if (first == 0xef && second == 0xbf && byte(i + 2) >= 0xbe) return 0;
  }
  return count;
}

}  // namespace

std::string Escape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const size_t bytes = CharacterBytes(text, i);
    const char c = text[i];
    if (bytes == 0 ||
        (bytes == 1 && static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t')) {
      out += kReplacement;
      ++i;
      continue;
    }
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out.append(text.substr(i, bytes));
    }
    i += bytes;
  }
  return out;
}

std::string Pixels(double value) {
  // No "-0.0".
  return absl::StrFormat("%.1f", std::abs(value) < 0.05 ? 0.0 : value);
}

std::string ShortNumber(double value) {
  const double size = std::abs(value);
  if (size == 0) return "0";
  if (size >= 1e6) return absl::StrFormat("%.1e", value);
  if (size >= 1000) return absl::StrFormat("%.0f", value);
  if (size < 1e-3) return absl::StrFormat("%.1e", value);
  return absl::StrFormat("%.4g", value);
}

// By classes of DejaVu Sans, the widest of the page's fonts; a narrower one leaves more room.
double TextWidth(std::string_view text, double font_size, FontWeight weight) {
  constexpr double kBoldOverRegular = 1.15;  // at most, of these classes
  double width = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte & 0xc0) == 0x80) continue;  // the rest of a character
    const auto is_one_of = [c](std::string_view set) {
      return set.find(c) != std::string_view::npos;
    };
    width += byte >= 0x80                                     ? 1.0
             : is_one_of(" ijlI.,:;|'-")                      ? 0.38
             : is_one_of("!()[]")                             ? 0.41
             : is_one_of("mwMW@%")                            ? 1.0
             : is_one_of("<>=+~&#^")                          ? 0.84
             : is_one_of("DGHNOQ")                            ? 0.79
             : c >= 'A' && c <= 'Z'                           ? 0.74
             : is_one_of("bdghnpqu{}$") || std::isdigit(byte) ? 0.64
                                                              : 0.62;
  }
  return width * font_size * (weight == FontWeight::kBold ? kBoldOverRegular : 1);
}

std::string Fit(const std::string& text, double font_size, double width, FontWeight weight) {
  if (TextWidth(text, font_size, weight) <= width) return text;
  constexpr char kEllipsis[] = "\xe2\x80\xa6";
  std::string shorter = text;
  while (!shorter.empty() && TextWidth(shorter + kEllipsis, font_size, weight) > width) {
    // A whole character.
    while (shorter.size() > 1 && (static_cast<unsigned char>(shorter.back()) & 0xc0) == 0x80) {
      shorter.pop_back();
    }
    shorter.pop_back();
  }
  return shorter + kEllipsis;
}

std::string Text(const SvgText& at, std::string_view text) {
  return absl::StrCat("<text class=\"", at.css_class, "\" x=\"", Pixels(at.x), "\" y=\"",
                      Pixels(at.y), "\" text-anchor=\"", std::string(at.anchor), "\"",
                      at.transform.empty() ? "" : absl::StrCat(" transform=\"", at.transform, "\""),
                      ">", Escape(text), "</text>\n");
}

std::string Line(double x1, double y1, double x2, double y2, std::string_view css_class) {
  return absl::StrCat("<line class=\"", std::string(css_class), "\" x1=\"", Pixels(x1), "\" y1=\"",
                      Pixels(y1), "\" x2=\"", Pixels(x2), "\" y2=\"", Pixels(y2), "\"/>\n");
}

std::string BeginSvg(double width, double height, std::string_view label) {
  return absl::StrCat("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", Pixels(width),
                      " ", Pixels(height), "\" role=\"img\" aria-label=\"", Escape(label), "\">\n");
}

}  // namespace rankine
