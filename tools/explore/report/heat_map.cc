#include "tools/explore/report/heat_map.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/explore/report/svg.h"

namespace rankine {
namespace {

constexpr double kTypeSize = 12;
constexpr double kRowHeight = 26;
constexpr double kGap = 1.5;
// The palest shade can still be told from the empty page.
constexpr double kPalest = 0.06;
constexpr int kScaleSteps = 24;

std::string Cell(double x, double y, double width, double height, double share,
                 const std::string& css_class, const std::string& tooltip) {
  return absl::StrCat(
      "<rect class=\"", css_class, "\" x=\"", Pixels(x), "\" y=\"", Pixels(y), "\" width=\"",
      Pixels(width), "\" height=\"", Pixels(height), "\" fill-opacity=\"",
      absl::StrFormat("%.3f", kPalest + (1 - kPalest) * share), "\">",
      tooltip.empty() ? "" : absl::StrCat("<title>", Escape(tooltip), "</title>"), "</rect>\n");
}

std::string Scale(double left, double top, double width, double low, double high) {
  std::string out;
  const double step = width / kScaleSteps;
  for (int i = 0; i < kScaleSteps; ++i) {
    out += Cell(left + i * step, top, step + 0.2, 10, (i + 0.5) / kScaleSteps, "scale", "");
  }
  out += Text({left - 8, top + 9, "end"}, ShortNumber(low));
  return out + Text({left + width + 8, top + 9, "start"}, ShortNumber(high));
}

}  // namespace

std::string DrawHeatMap(const HeatMap& map, double width) {
  double names = 0, low = 1e300, high = -1e300;
  for (const std::string& row : map.rows) names = std::max(names, TextWidth(row, kTypeSize));
  for (const auto& row : map.cells) {
    for (const HeatCell& cell : row) {
      if (!cell.value) continue;
      low = std::min(low, *cell.value);
      high = std::max(high, *cell.value);
    }
  }
  const double left = names + 10, columns = static_cast<double>(map.columns.size());
  const double step = (width - left - 4) / std::max(1.0, columns);
  const double bottom = 4 + kRowHeight * static_cast<double>(map.rows.size());
  std::string out = BeginSvg(width, bottom + 82, map.label);
  for (size_t r = 0; r < map.rows.size(); ++r) {
    const double y = 4 + kRowHeight * static_cast<double>(r);
    out += Text({left - 8, y + kRowHeight / 2 + 4, "end", "name"}, map.rows[r]);
    for (size_t c = 0; c < map.cells[r].size(); ++c) {
      const HeatCell& cell = map.cells[r][c];
      if (!cell.value) continue;
      const double share = high > low ? (*cell.value - low) / (high - low) : 1;
      out += Cell(left + static_cast<double>(c) * step, y, std::max(1.0, step - kGap),
                  kRowHeight - kGap, share, "cell", cell.tooltip);
    }
  }
  const int every = std::max(1, static_cast<int>(30 / step + 0.999));
  for (size_t c = 0; c < map.columns.size(); c += every) {
    const double x = left + (static_cast<double>(c) + 0.5) * step;
    out += Text({x, bottom + 16, "middle"}, map.columns[c]);
  }
  out += Text({left + columns * step / 2, bottom + 36, "middle", "title"}, map.x_title);
  if (low <= high) {
    const double length = std::min(200.0, (width - left) / 2);
    out += Scale(left + (width - left - length) / 2, bottom + 56, length, low, high);
  }
  return out + "</svg>\n";
}

}  // namespace rankine
