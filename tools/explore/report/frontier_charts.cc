// Loss against bytes, and against speed.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/explore/report/charts.h"
#include "tools/explore/report/scatter.h"
#include "tools/explore/report/svg.h"

namespace rankine {
namespace {

constexpr int kColors = 8;
// Perplexities beyond this many times the best are drawn at the upper edge: on one scale with them
// nothing else could be told apart.
constexpr double kMostTimesBest = 10;

int ShapeOf(PointKind kind) {
  return kind == PointKind::kFactorize ? 0 : kind == PointKind::kEncode ? 1 : 2;
}

double Error(const Estimate& e) { return e.standard_error.value_or(0); }

std::string Tooltip(const PointResult& p, const TextResult& t) {
  std::string text = absl::StrFormat(
      "%s\n%.1f MB, %.2f bits per weight\n%s: perplexity %s \u00b1 %s\nlog perplexity %+.4f \u00b1 "
      "%.4f against dense",
      p.name, static_cast<double>(p.size.linear_bytes) * 1e-6, p.size.bits_per_weight(), t.text,
      ShortNumber(t.perplexity.value), ShortNumber(Error(t.perplexity)), t.log_difference.value,
      Error(t.log_difference));
  if (p.speed) {
    absl::StrAppendFormat(&text, "\ndecode %.2f times dense [%.2f, %.2f]",
                          p.speed->decode_ratio.median, p.speed->decode_ratio.low,
                          p.speed->decode_ratio.high);
  }
  return text;
}

// The perplexity part of a point of the chart.
ScatterPoint LossPoint(const Exploration& e, size_t i, size_t text) {
  const PointResult& p = e.points[i];
  const TextResult& t = p.texts[text];
  // An error of the mean loss is a factor of the perplexity.
  const double factor = std::exp(Error(t.perplexity) / t.perplexity.value);
  return {.y = t.perplexity.value,
          .y_low = t.perplexity.value / factor,
          .y_high = t.perplexity.value * factor,
          .name = p.name,
          .tooltip = Tooltip(p, t),
          .color = ColorsOf(e).at(p.family),
          .shape = ShapeOf(p.kind)};
}

double MostPerplexity(const Exploration& e, size_t text) {
  double best = 1e300, most = 0;
  for (const PointResult& p : e.points) {
    best = std::min(best, p.texts[text].perplexity.value);
    most = std::max(most, p.texts[text].perplexity.value);
  }
  return most > kMostTimesBest * best ? kMostTimesBest * best : 0;
}

// Both sizes of a chart; the page shows one.
std::string WideAndNarrow(const ScatterChart& chart) {
  return absl::StrCat("<div class=\"wide\">", DrawScatter(chart, 1040, 520),
                      "</div><div class=\"narrow\">", DrawScatter(chart, 350, 400), "</div>");
}

bool HaveOneShape(const std::vector<PointResult>& points) {
  return std::all_of(points.begin(), points.end(), [&](const PointResult& p) {
    return p.size.linear_weights == points.front().size.linear_weights;
  });
}

}  // namespace

std::map<std::string, int> ColorsOf(const Exploration& e) {
  std::map<std::string, int> colors = {{"as it is", 0}};
  int next = 1;
  for (const PointResult& p : e.points) {
    if (!colors.emplace(p.family, next).second) continue;
    next = next % (kColors - 1) + 1;
  }
  return colors;
}

std::string LegendOf(const Exploration& e) {
  const std::map<std::string, int> colors = ColorsOf(e);
  std::string out = "<ul class=\"legend\">";
  std::map<std::string, bool> seen;
  for (const PointResult& p : e.points) {
    if (seen[p.family]) continue;
    seen[p.family] = true;
    const char* shapes[] = {"<circle cx=\"6\" cy=\"6\" r=\"5\"/>",
                            "<rect x=\"1.5\" y=\"1.5\" width=\"9\" height=\"9\"/>",
                            "<polygon points=\"6,0 12,6 6,12 0,6\"/>"};
    absl::StrAppend(&out, "<li><svg viewBox=\"0 0 12 12\" class=\"c", colors.at(p.family),
                    "\" fill=\"currentColor\" aria-hidden=\"true\">", shapes[ShapeOf(p.kind)],
                    "</svg>", Escape(p.family), "</li>");
  }
  return out + "</ul>\n";
}

std::string SizeSection(const Exploration& e) {
  if (e.points.empty()) return "";
  std::string out;
  const size_t texts = e.points.front().texts.size();
  for (size_t text = 0; text < texts; ++text) {
    const std::string& name = e.points.front().texts[text].text;
    ScatterChart chart{.label = absl::StrCat("Perplexity on ", name, " against size"),
                       .x_title = "MB of the linears (scales, S and biases counted)",
                       .y_title = absl::StrCat("perplexity on ", name),
                       .y_most = MostPerplexity(e, text)};
    if (HaveOneShape(e.points)) {
      chart.top_per_x = 8e6 / static_cast<double>(e.points.front().size.linear_weights);
      chart.top_title = "bits per weight";
    }
    for (size_t i = 0; i < e.points.size(); ++i) {
      ScatterPoint point = LossPoint(e, i, text);
      point.x = point.x_low = point.x_high =
          static_cast<double>(e.points[i].size.linear_bytes) * 1e-6;
      point.on_frontier = text == 0 && e.on_size_frontier[i];
      chart.points.push_back(std::move(point));
    }
    absl::StrAppend(
        &out, "<section class=\"chart size\"><h2>Loss against size: ", Escape(name), "</h2><p>",
        text == 0 ? "Lower and further left is better. The dashed line is the frontier: nothing "
                    "measured is both smaller and better. "
                  : "The same points on another text. ",
        "Bars are standard errors over windows",
        chart.y_most > 0 ? "; triangles at the top are beyond the scale" : "", ".</p>", LegendOf(e),
        WideAndNarrow(chart), "</section>\n");
  }
  return out;
}

std::string SpeedSection(const Exploration& e) {
  double dense = 0;
  for (const PointResult& p : e.points) {
    if (p.kind == PointKind::kDense && p.speed) dense = p.speed->decode_tokens_per_second;
  }
  if (dense <= 0) return "";
  ScatterChart chart{.label = "Perplexity against decode speed",
                     .x_title = "decode, tokens/s",
                     .y_title = absl::StrCat("perplexity on ", e.points.front().texts[0].text),
                     .y_most = MostPerplexity(e, 0),
                     .top_per_x = 1 / dense,
                     .top_title = "times the dense model",
                     .less_x_is_better = false};
  for (size_t i = 0; i < e.points.size(); ++i) {
    const std::optional<SpeedResult>& speed = e.points[i].speed;
    if (!speed) continue;
    ScatterPoint point = LossPoint(e, i, 0);
    point.x = dense * speed->decode_ratio.median;
    point.x_low = dense * speed->decode_ratio.low;
    point.x_high = dense * speed->decode_ratio.high;
    point.on_frontier = e.on_speed_frontier[i];
    chart.points.push_back(std::move(point));
  }
  return absl::StrCat(
      "<section class=\"chart speed\"><h2>Loss against speed</h2><p>Lower and further right is "
      "better. Each point was timed in turns with the dense model: its place is the ratio of the "
      "two "
      "times the dense model's own speed, its horizontal bar the ratio's 95% interval.</p>",
      LegendOf(e), WideAndNarrow(chart), "</section>\n");
}

}  // namespace rankine
