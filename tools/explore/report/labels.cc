#include "tools/explore/report/labels.h"

#include <algorithm>
#include <cmath>

#include "tools/explore/report/svg.h"

namespace rankine {
namespace {

bool IsInside(const Box& box, const Box& area) {
  return box.x >= area.x && box.y >= area.y && box.x + box.width <= area.x + area.width &&
         box.y + box.height <= area.y + area.height;
}

// The box of a text of that size whose nearest edge is `distance` from the mark in a direction.
Box BoxAt(const LabelWish& wish, double width, double height, double dx, double dy,
          double distance) {
  const double x = wish.x + dx * distance, y = wish.y + dy * distance;
  const double left = dx > 0.3 ? x : dx < -0.3 ? x - width : x - width / 2;
  return {left, y - height / 2 + dy * height / 2, width, height};
}

bool IsFree(const Box& box, const std::vector<Box>& taken) {
  return std::none_of(taken.begin(), taken.end(),
                      [&](const Box& other) { return box.Overlaps(other); });
}

// The nearest place that covers nothing that is taken, nor a line unless `may_cross`.
std::optional<PlacedLabel> PlaceOf(const LabelWish& wish, const std::vector<Box>& taken,
                                   const std::vector<Box>& lines, bool may_cross, const Box& area,
                                   double font_size) {
  constexpr double kDiagonal = 0.8;
  constexpr std::pair<double, double> kDirections[] = {
      {1, 0},  {-1, 0}, {kDiagonal, -kDiagonal},  {kDiagonal, kDiagonal},
      {0, -1}, {0, 1},  {-kDiagonal, -kDiagonal}, {-kDiagonal, kDiagonal}};
  const double width = TextWidth(wish.text, font_size, wish.weight), height = font_size * 1.15;
  for (const double distance : {9.0, 22.0, 36.0}) {
    for (const auto& [dx, dy] : kDirections) {
      const Box box = BoxAt(wish, width, height, dx, dy, distance);
      if (IsInside(box, area) && IsFree(box, taken) && (may_cross || IsFree(box, lines))) {
        return PlacedLabel{.box = box, .is_near = distance < 10};
      }
    }
  }
  return std::nullopt;
}

}  // namespace

std::vector<std::optional<PlacedLabel>> PlaceLabels(const std::vector<LabelWish>& wishes,
                                                    const std::vector<Box>& marks,
                                                    const std::vector<Box>& lines, const Box& area,
                                                    double font_size) {
  std::vector<Box> taken = marks;
  std::vector<std::optional<PlacedLabel>> placed;
  for (const LabelWish& wish : wishes) {
    auto found = PlaceOf(wish, taken, lines, /*may_cross=*/false, area, font_size);
    if (!found) found = PlaceOf(wish, taken, lines, /*may_cross=*/true, area, font_size);
    if (found) taken.push_back(found->box);
    placed.push_back(found);
  }
  return placed;
}

}  // namespace rankine
