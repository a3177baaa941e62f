// A chart of points with error bars, names and the line of the frontier.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace rankine {

struct ScatterPoint {
  double x = 0, y = 0;
  double x_low = 0, x_high = 0, y_low = 0, y_high = 0;  // ends of the error bars
  std::string name, tooltip;
  int color = 0;  // of the palette
  int shape = 0;  // 0 circle, 1 square, 2 diamond
  bool on_frontier = false;
};

struct ScatterChart {
  std::string label;  // for screen readers
  std::string x_title, y_title;
  // Values beyond are drawn at the upper edge, with an arrow and their number.
  double y_most = 0;  // 0 = none are
  // A second axis at the top, `top_per_x` of its units to one of x; 0 = none.
  double top_per_x = 0;
  std::string top_title;
  // Which way the frontier's line goes: less x is better (size), or more (speed).
  bool less_x_is_better = true;
  std::vector<ScatterPoint> points;
};

// As SVG of that size. Each point is one <g class="mark">.
std::string DrawScatter(const ScatterChart& chart, double width, double height);

}  // namespace rankine
