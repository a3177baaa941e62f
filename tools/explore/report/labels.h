// Names beside marks, where they cover neither each other nor a mark.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/explore/report/svg.h"

namespace rankine {

struct Box {
  double x = 0, y = 0, width = 0, height = 0;  // x, y: the upper left corner

  bool Overlaps(const Box& other) const {
    return x < other.x + other.width && other.x < x + width && y < other.y + other.height &&
           other.y < y + height;
  }
};

struct LabelWish {
  double x = 0, y = 0;  // of the mark's middle
  std::string text;
  FontWeight weight = FontWeight::kRegular;
};

struct PlacedLabel {
  Box box;
  bool is_near = true;  // else a line should lead to the mark
};

// Greedy, the first wish first: of some twenty places around the mark the nearest that is free;
// absent when there is none. All stay within `area`, `marks` (and the labels) stay clear; `lines`
// do so where a place is left that crosses none.
std::vector<std::optional<PlacedLabel>> PlaceLabels(const std::vector<LabelWish>& wishes,
                                                    const std::vector<Box>& marks,
                                                    const std::vector<Box>& lines, const Box& area,
                                                    double font_size);

}  // namespace rankine
