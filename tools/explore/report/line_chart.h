// A chart of lines, each with its name at its right end.
#pragma once

#include <string>
#include <vector>

namespace rankine {

struct LineSeries {
  std::string name;  // at the line's end; empty = none
  std::string tooltip;
  std::string style;  // "stroke:..." or empty, then `color`
  int color = 0;      // of the palette
  std::vector<double> x, y;
};

struct LineChart {
  std::string label;  // for screen readers
  std::string x_title, y_title;
  bool is_x_log = false, is_y_log = false;
  double y_least = 0;  // of a logarithmic axis: what is less is drawn at the lower edge; 0 = all
  bool y_from_zero = false;
  std::vector<LineSeries> series;
};

// As SVG of that size. Each line is one <g class="series">.
std::string DrawLines(const LineChart& chart, double width, double height);

}  // namespace rankine
