#include "tools/explore/report/scatter.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "tools/explore/report/axis.h"
#include "tools/explore/report/labels.h"
#include "tools/explore/report/svg.h"

namespace rankine {
namespace {

constexpr double kLabelSize = 12;
constexpr double kMarkSize = 5;

class ScatterDrawing {
 public:
  ScatterDrawing(const ScatterChart& chart, double width, double height)
      : chart_(chart), width_(width), height_(height) {
    std::vector<double> xs, ys;
    for (const ScatterPoint& p : chart.points) {
      xs.insert(xs.end(), {p.x_low, p.x_high});
      if (!IsBeyond(p)) ys.insert(ys.end(), {p.y_low, std::min(p.y_high, Most())});
    }
    x_ = AxisAround(xs, /*is_log=*/false, 0.07);
    y_ = AxisAround(ys, /*is_log=*/true, 0.1);
    // Room for the arrows.
    if (HasBeyond()) y_.high *= 1.15;
    const double top = chart.top_per_x > 0 ? 48 : 16;
    x_.begin = 56;
    x_.end = width - 14;
    y_.begin = height - 48;
    y_.end = top;
  }

  std::string Run() {
    out_ = BeginSvg(width_, height_, chart_.label);
    AddAxes();
    AddFrontier();
    AddBars();
    AddLabels();
    for (const ScatterPoint& p : chart_.points) AddMark(p);
    return out_ + "</svg>\n";
  }

 private:
  double Most() const { return chart_.y_most > 0 ? chart_.y_most : 1e300; }
  bool IsBeyond(const ScatterPoint& p) const { return p.y > Most(); }
  bool HasBeyond() const {
    return std::any_of(chart_.points.begin(), chart_.points.end(),
                       [&](const ScatterPoint& p) { return IsBeyond(p); });
  }
  double X(const ScatterPoint& p) const { return x_.At(p.x); }
  double Y(const ScatterPoint& p) const { return IsBeyond(p) ? y_.end + 9 : y_.At(p.y); }

  // In the middle below or above its tick, as far as the chart's edge lets it.
  void AddTickLabel(double x, double y, const std::string& label) {
    const double half = TextWidth(label, kLabelSize) / 2;
    out_ += Text({std::min(x, width_ - 1 - half), y, "middle"}, label);
  }

  void AddAxes() {
    for (const double tick : TicksOf(y_, static_cast<int>((y_.begin - y_.end) / 40))) {
      out_ += Line(x_.begin, y_.At(tick), x_.end, y_.At(tick), "grid");
      out_ += Text({x_.begin - 8, y_.At(tick) + 4, "end"}, TickLabel(tick));
    }
    const int most = static_cast<int>((x_.end - x_.begin) / 64);
    for (const double tick : TicksOf(x_, most)) {
      out_ += Line(x_.At(tick), y_.begin, x_.At(tick), y_.end, "grid");
      AddTickLabel(x_.At(tick), y_.begin + 18, TickLabel(tick));
    }
    out_ += Line(x_.begin, y_.begin, x_.end, y_.begin, "axis");
    const double middle = (x_.begin + x_.end) / 2, center = (y_.begin + y_.end) / 2;
    out_ += Text({middle, height_ - 8, "middle", "title"}, chart_.x_title);
    out_ +=
        Text({14, center, "middle", "title", absl::StrCat("rotate(-90 14 ", Pixels(center), ")")},
             chart_.y_title);
    if (chart_.top_per_x <= 0) return;
    Axis top = x_;
    top.low *= chart_.top_per_x;
    top.high *= chart_.top_per_x;
    for (const double tick : TicksOf(top, most)) {
      out_ += Line(top.At(tick), y_.end - 4, top.At(tick), y_.end, "axis");
      AddTickLabel(top.At(tick), y_.end - 9, TickLabel(tick));
    }
    out_ += Line(x_.begin, y_.end, x_.end, y_.end, "axis");
    out_ += Text({middle, y_.end - 28, "middle", "title"}, chart_.top_title);
  }

  // A step line: what can be had with so much x or less.
  void AddFrontier() {
    std::vector<const ScatterPoint*> on;
    for (const ScatterPoint& p : chart_.points) {
      if (p.on_frontier && !IsBeyond(p)) on.push_back(&p);
    }
    std::sort(on.begin(), on.end(), [&](const ScatterPoint* a, const ScatterPoint* b) {
      return chart_.less_x_is_better ? a->x < b->x : a->x > b->x;
    });
    if (on.empty()) return;
    std::string path = absl::StrCat("M", Pixels(X(*on[0])), " ", Pixels(Y(*on[0])));
    double x = X(*on[0]), y = Y(*on[0]);
    const auto go_to = [&](double next_x, double next_y) {
      AddLine(x, y, next_x, y);
      AddLine(next_x, y, next_x, next_y);
      x = next_x;
      y = next_y;
    };
    for (size_t i = 1; i < on.size(); ++i) {
      absl::StrAppend(&path, "H", Pixels(X(*on[i])), "V", Pixels(Y(*on[i])));
      go_to(X(*on[i]), Y(*on[i]));
    }
    const double end = chart_.less_x_is_better ? x_.end : x_.begin;
    absl::StrAppend(&path, "H", Pixels(end));
    go_to(end, y);
    absl::StrAppend(&out_, "<path class=\"frontier\" d=\"", path, "\"/>\n");
  }

  // What names should not cross.
  void AddLine(double x1, double y1, double x2, double y2) {
    lines_.push_back(
        {std::min(x1, x2) - 1, std::min(y1, y2) - 1, std::abs(x2 - x1) + 2, std::abs(y2 - y1) + 2});
  }

  void AddBars() {
    for (const ScatterPoint& p : chart_.points) {
      if (IsBeyond(p)) continue;
      const std::string color = absl::StrCat("bar c", p.color);
      out_ += Line(X(p), y_.At(p.y_low), X(p), y_.At(p.y_high), color);
      AddLine(X(p), y_.At(p.y_low), X(p), y_.At(p.y_high));
      if (p.x_high > p.x_low) {
        out_ += Line(x_.At(p.x_low), Y(p), x_.At(p.x_high), Y(p), color);
        AddLine(x_.At(p.x_low), Y(p), x_.At(p.x_high), Y(p));
      }
    }
  }

  void AddLabels() {
    std::vector<size_t> order(chart_.points.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_partition(order.begin(), order.end(),
                          [&](size_t i) { return chart_.points[i].on_frontier; });
    std::vector<LabelWish> wishes;
    std::vector<Box> marks;
    for (const size_t i : order) {
      const ScatterPoint& p = chart_.points[i];
      const std::string value = IsBeyond(p) ? absl::StrCat(" (", ShortNumber(p.y), ")") : "";
      const FontWeight weight = p.on_frontier ? FontWeight::kBold : FontWeight::kRegular;
      wishes.push_back({X(p), Y(p), Fit(p.name, kLabelSize, 0.4 * width_, weight) + value, weight});
      marks.push_back(
          {X(p) - kMarkSize - 1, Y(p) - kMarkSize - 1, 2 * kMarkSize + 2, 2 * kMarkSize + 2});
    }
    const Box area{x_.begin + 2, y_.end + 2, x_.end - x_.begin + 8, y_.begin - y_.end - 4};
    const auto placed = PlaceLabels(wishes, marks, lines_, area, kLabelSize);
    for (size_t k = 0; k < placed.size(); ++k) {
      if (!placed[k]) continue;
      const Box& box = placed[k]->box;
      if (!placed[k]->is_near) {
        const double x = std::clamp(wishes[k].x, box.x, box.x + box.width);
        const double y = std::clamp(wishes[k].y, box.y, box.y + box.height);
        out_ += Line(wishes[k].x, wishes[k].y, x, y, "leader");
      }
      out_ += Text({box.x + box.width / 2, box.y + 0.82 * box.height, "middle",
                    wishes[k].weight == FontWeight::kBold ? "name best" : "name"},
                   wishes[k].text);
    }
  }

  std::string Shape(const ScatterPoint& p) const {
    const double x = X(p), y = Y(p), r = kMarkSize;
    const auto polygon = [](const std::vector<std::pair<double, double>>& corners) {
      std::string points;
      for (const auto& [px, py] : corners)
        absl::StrAppend(&points, Pixels(px), ",", Pixels(py), " ");
      return absl::StrCat("<polygon points=\"", points, "\"/>");
    };
    if (IsBeyond(p)) return polygon({{x, y - r - 1}, {x + r, y + r - 1}, {x - r, y + r - 1}});
    if (p.shape == 1) {
      return absl::StrCat("<rect x=\"", Pixels(x - r + 0.5), "\" y=\"", Pixels(y - r + 0.5),
                          "\" width=\"", Pixels(2 * r - 1), "\" height=\"", Pixels(2 * r - 1),
                          "\"/>");
    }
    if (p.shape == 2) {
      return polygon({{x, y - r - 1}, {x + r + 1, y}, {x, y + r + 1}, {x - r - 1, y}});
    }
    return absl::StrCat("<circle cx=\"", Pixels(x), "\" cy=\"", Pixels(y), "\" r=\"", Pixels(r),
                        "\"/>");
  }

  void AddMark(const ScatterPoint& p) {
    absl::StrAppend(&out_, "<g class=\"mark c", p.color, p.on_frontier ? "" : " dominated", "\">",
                    "<title>", Escape(p.tooltip), "</title>", Shape(p), "</g>\n");
  }

  const ScatterChart& chart_;
  double width_, height_;
  Axis x_, y_;
  std::vector<Box> lines_;  // of the frontier and the bars
  std::string out_;
};

}  // namespace

std::string DrawScatter(const ScatterChart& chart, double width, double height) {
  return ScatterDrawing(chart, width, height).Run();
}

}  // namespace rankine
