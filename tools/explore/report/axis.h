// The scale of a chart's side, and where its ticks are.
#pragma once

#include <string>
#include <vector>

namespace rankine {

struct Axis {
  double low = 0, high = 1;   // values; low < high, and above 0 when `is_log`
  double begin = 0, end = 1;  // their pixels
  bool is_log = false;

  // Pixel of a value, held within the axis.
  double At(double value) const;
  bool Holds(double value) const { return value >= low && value <= high; }
};

// Round values within the axis, rising, at most `most` (at least 2): steps of 1, 2 or 5 times a
// power of ten; on a logarithmic axis those numbers themselves, or powers of ten where it is long.
std::vector<double> TicksOf(const Axis& axis, int most);
// As short as the distance between ticks allows.
std::string TickLabel(double value);

// An axis around all values with a margin at both ends, of a part of its length. It is at least a
// tenth of its values long, so that one value, or several that hardly differ, have round ticks.
Axis AxisAround(const std::vector<double>& values, bool is_log, double margin);

}  // namespace rankine
