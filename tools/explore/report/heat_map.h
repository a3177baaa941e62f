// A table of shades.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace rankine {

struct HeatCell {
  std::optional<double> value;  // absent: an empty cell
  std::string tooltip;
};

struct HeatMap {
  std::string label;  // for screen readers
  std::string x_title;
  std::vector<std::string> rows;
  std::vector<std::string> columns;
  std::vector<std::vector<HeatCell>> cells;  // [row][column]
};

// As SVG of that width; each cell with a value is one <rect class="cell">. Shades go from the least
// value to the greatest, which stand beside a scale below.
std::string DrawHeatMap(const HeatMap& map, double width);

}  // namespace rankine
