#include "tools/explore/report/line_chart.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "tools/explore/report/axis.h"
#include "tools/explore/report/svg.h"

namespace rankine {
namespace {

constexpr double kNameSize = 12;

class LineDrawing {
 public:
  LineDrawing(const LineChart& chart, double width, double height)
      : chart_(chart), width_(width), height_(height) {
    std::vector<double> xs, ys;
    double names = 0;
    for (const LineSeries& s : chart.series) {
      xs.insert(xs.end(), s.x.begin(), s.x.end());
      for (const double y : s.y) ys.push_back(std::max(y, chart.y_least));
      names = std::max(names, TextWidth(s.name, kNameSize));
    }
    if (chart.y_from_zero) ys.push_back(0);
    x_ = AxisAround(xs, chart.is_x_log, 0);
    y_ = AxisAround(ys, chart.is_y_log, 0.04);
    if (chart.y_from_zero) y_.low = 0;
    name_width_ = std::min(names, 0.3 * width);
    x_.begin = chart.y_title.empty() ? 44 : 56;
    x_.end = width - 12 - (names > 0 ? name_width_ + 6 : 0);
    y_.begin = height - (chart.x_title.empty() ? 24 : 46);
    y_.end = 12;
  }

  std::string Run() {
    out_ = BeginSvg(width_, height_, chart_.label);
    AddAxes();
    for (const LineSeries& s : chart_.series) AddSeries(s);
    AddNames();
    return out_ + "</svg>\n";
  }

 private:
  void AddAxes() {
    for (const double tick : TicksOf(y_, static_cast<int>((y_.begin - y_.end) / 34))) {
      out_ += Line(x_.begin, y_.At(tick), x_.end, y_.At(tick), "grid");
      out_ += Text({x_.begin - 6, y_.At(tick) + 4, "end"}, TickLabel(tick));
    }
    for (const double tick : TicksOf(x_, static_cast<int>((x_.end - x_.begin) / 46))) {
      out_ += Line(x_.At(tick), y_.begin, x_.At(tick), y_.begin + 4, "axis");
      out_ += Text({x_.At(tick), y_.begin + 17, "middle"}, TickLabel(tick));
    }
    out_ += Line(x_.begin, y_.begin, x_.end, y_.begin, "axis");
    const double center = (y_.begin + y_.end) / 2;
    if (!chart_.x_title.empty()) {
      out_ += Text({(x_.begin + x_.end) / 2, height_ - 8, "middle", "title"}, chart_.x_title);
    }
    if (chart_.y_title.empty()) return;
    out_ +=
        Text({14, center, "middle", "title", absl::StrCat("rotate(-90 14 ", Pixels(center), ")")},
             chart_.y_title);
  }

  void AddSeries(const LineSeries& s) {
    std::string path;
    for (size_t i = 0; i < s.x.size(); ++i) {
      absl::StrAppend(&path, i == 0 ? "M" : "L", Pixels(x_.At(s.x[i])), " ", Pixels(y_.At(s.y[i])));
    }
    absl::StrAppend(&out_, "<g class=\"series c", s.color, "\"><title>", Escape(s.tooltip),
                    "</title><path class=\"line\"",
                    s.style.empty() ? "" : absl::StrCat(" style=\"", s.style, "\""), " d=\"", path,
                    "\"/></g>\n");
  }

  // From the top down, pushed apart where lines end close together.
  void AddNames() {
    std::vector<const LineSeries*> named;
    for (const LineSeries& s : chart_.series) {
      if (!s.name.empty() && !s.y.empty()) named.push_back(&s);
    }
    std::stable_sort(named.begin(), named.end(), [](const LineSeries* a, const LineSeries* b) {
      return a->y.back() > b->y.back();
    });
    constexpr double kStep = kNameSize + 3;
    std::vector<double> at;
    for (const LineSeries* s : named) {
      const double wish = y_.At(s->y.back());
      at.push_back(at.empty() ? wish : std::max(wish, at.back() + kStep));
    }
    // What was pushed below the chart pushes the others up again.
    double lowest = y_.begin;
    for (size_t i = at.size(); i-- > 0; lowest = at[i] - kStep) at[i] = std::min(at[i], lowest);
    for (size_t i = 0; i < named.size(); ++i) {
      out_ += Line(x_.end, y_.At(named[i]->y.back()), x_.end + 5, at[i], "leader");
      out_ += Text({x_.end + 7, at[i] + 4, "start", absl::StrCat("name t", named[i]->color)},
                   Fit(named[i]->name, kNameSize, name_width_));
    }
  }

  const LineChart& chart_;
  double width_, height_, name_width_ = 0;
  Axis x_, y_;
  std::string out_;
};

}  // namespace

std::string DrawLines(const LineChart& chart, double width, double height) {
  return LineDrawing(chart, width, height).Run();
}

}  // namespace rankine
