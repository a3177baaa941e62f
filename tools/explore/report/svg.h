// Small pieces of SVG and HTML as text. All are well-formed XML.
#pragma once

#include <string>
#include <string_view>

namespace rankine {

// For text and attribute values. Control characters and bytes that are no UTF-8, which XML cannot
// hold, become U+FFFD.
std::string Escape(std::string_view text);

// "12.5": a length in pixels.
std::string Pixels(double value);
// Four significant digits, without an exponent where people would write none: "8.304", "15200",
// "3.1e6".
std::string ShortNumber(double value);

enum class FontWeight { kRegular, kBold };

// At least the width of a Latin text in pixels, in the widest of the page's fonts.
double TextWidth(std::string_view text, double font_size, FontWeight weight = FontWeight::kRegular);

// Shortened with an ellipsis to that width.
std::string Fit(const std::string& text, double font_size, double width,
                FontWeight weight = FontWeight::kRegular);

struct SvgText {
  double x = 0, y = 0;
  std::string_view anchor = "start";  // start, middle, end
  std::string css_class = "tick";
  std::string transform = {};
};
std::string Text(const SvgText& at, std::string_view text);
std::string Line(double x1, double y1, double x2, double y2, std::string_view css_class);
// An opening tag for a drawing of that size, with what a screen reader says of it. "</svg>" ends
// it.
std::string BeginSvg(double width, double height, std::string_view label);

}  // namespace rankine
