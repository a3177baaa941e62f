// What differs between layers: errors of points, sensitivity, spectra.
#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/compress/linears.h"
#include "tools/explore/report/charts.h"
#include "tools/explore/report/heat_map.h"
#include "tools/explore/report/line_chart.h"
#include "tools/explore/report/svg.h"

namespace rankine {
namespace {

constexpr size_t kMostLines = 6;
constexpr size_t kMostSpectra = 8;  // lines in a panel
constexpr double kLeastShare = 1e-6;

// The part of a linear's name behind the layer's number: "self_attn.q_proj".
std::string TypeOf(const std::string& linear) {
  const std::string first = InLayer(linear, 0), other = InLayer(linear, 1);
  size_t at = 0;
  while (at < first.size() && first[at] == other[at]) ++at;
  return at + 2 < first.size() ? first.substr(at + 2) : linear;
}

double ErrorOf(const LinearError& e) { return e.weighted_error.value_or(e.relative_error); }

bool IsWeighted(const PointResult& p) {
  return !p.linears.empty() && p.linears.front().weighted_error.has_value();
}

const char* ErrorName(const PointResult& p) {
  return IsWeighted(p) ? "weighted error" : "relative error";
}

bool HasErrors(const PointResult& p) {
  return p.kind != PointKind::kDense && p.MeanRelativeError().value_or(0) > 0;
}

// The frontier's, then each family's best, until there are enough.
std::vector<const PointResult*> PointsToDraw(const Exploration& e) {
  std::vector<const PointResult*> chosen;
  std::set<std::string> families;
  const auto add = [&](const PointResult& p) {
    if (chosen.size() < kMostLines && std::count(chosen.begin(), chosen.end(), &p) == 0) {
      chosen.push_back(&p);
      families.insert(p.family);
    }
  };
  for (size_t i = 0; i < e.points.size(); ++i) {
    if (e.on_size_frontier[i] && HasErrors(e.points[i])) add(e.points[i]);
  }
  std::vector<const PointResult*> by_loss;
  for (const PointResult& p : e.points) {
    if (HasErrors(p)) by_loss.push_back(&p);
  }
  std::stable_sort(by_loss.begin(), by_loss.end(), [](const auto* a, const auto* b) {
    return a->texts[0].log_difference.value < b->texts[0].log_difference.value;
  });
  for (const PointResult* p : by_loss) {
    if (families.count(p->family) == 0) add(*p);
  }
  return chosen;
}

bool ChangesEveryLinear(const PointResult& p) {
  return std::all_of(p.linears.begin(), p.linears.end(),
                     [](const LinearError& linear) { return linear.relative_error > 0; });
}

// The smallest of the factorised points that change every linear, where `every` asks for that; of
// several of nearly one size that with the least error. Null: there is none.
const PointResult* MostCompressed(const Exploration& e, bool every) {
  constexpr double kSameSize = 1.05;
  const PointResult* best = nullptr;
  for (const PointKind kind : {PointKind::kFactorize, PointKind::kEncode, PointKind::kBaseline}) {
    for (const PointResult& p : e.points) {
      if (p.kind != kind || !HasErrors(p) || (every && !ChangesEveryLinear(p))) continue;
      const auto bytes = [](const PointResult& q) {
        return static_cast<double>(q.size.linear_bytes);
      };
      const bool is_smaller = best == nullptr || bytes(p) * kSameSize < bytes(*best);
      const bool is_better =
          best != nullptr && bytes(p) < bytes(*best) * kSameSize &&
          IsWeighted(p) >= IsWeighted(*best) && *p.MeanRelativeError() > 0 &&
          (IsWeighted(p) ? *p.MeanWeightedError() : *p.MeanRelativeError()) <
              (IsWeighted(*best) ? *best->MeanWeightedError() : *best->MeanRelativeError());
      if (is_smaller || is_better) best = &p;
    }
    if (best != nullptr) return best;
  }
  return best;
}

// A point that leaves no linear as it is says most; any other where there is none.
const PointResult* MostCompressed(const Exploration& e) {
  const PointResult* all = MostCompressed(e, /*every=*/true);
  return all != nullptr ? all : MostCompressed(e, /*every=*/false);
}

std::string WideAndNarrow(const LineChart& chart) {
  return absl::StrCat("<div class=\"wide\">", DrawLines(chart, 1040, 360),
                      "</div><div class=\"narrow\">", DrawLines(chart, 350, 300), "</div>");
}

// Values by type and layer, as a heat map.
struct HeatCells {
  std::vector<std::string> types;  // in the order in which they come
  std::map<std::string, std::map<int64_t, HeatCell>> values;
  std::set<int64_t> layers;

  void Add(const std::string& linear, double value, const std::string& what) {
    const auto layer = LayerOf(linear);
    if (!layer) return;
    const std::string type = TypeOf(linear);
    if (values.find(type) == values.end()) types.push_back(type);
    values[type][*layer] = {value, absl::StrCat(linear, "\n", what, " ", ShortNumber(value))};
    layers.insert(*layer);
  }
};

// "q_proj" where no other type ends so.
std::vector<std::string> ShortTypes(const std::vector<std::string>& types) {
  std::map<std::string, int> ends;
  const auto last = [](const std::string& type) { return type.substr(type.rfind('.') + 1); };
  for (const std::string& type : types) ++ends[last(type)];
  std::vector<std::string> names;
  for (const std::string& type : types) names.push_back(ends[last(type)] == 1 ? last(type) : type);
  return names;
}

std::string DrawCells(const HeatCells& cells, const std::string& label) {
  HeatMap map{.label = label, .x_title = "layer", .rows = ShortTypes(cells.types)};
  for (const int64_t layer : cells.layers) map.columns.push_back(absl::StrCat(layer));
  for (const std::string& type : cells.types) {
    map.cells.emplace_back();
    const auto& row = cells.values.at(type);
    for (const int64_t layer : cells.layers) {
      const auto found = row.find(layer);
      map.cells.back().push_back(found == row.end() ? HeatCell{} : found->second);
    }
  }
  return absl::StrCat("<div class=\"wide\">", DrawHeatMap(map, 1040),
                      "</div><div class=\"narrow\">", DrawHeatMap(map, 350), "</div>");
}

// From blue over green to gold: readable on both backgrounds.
std::string DepthColor(double share) {
  constexpr std::array<std::array<double, 3>, 3> kStops = {
      {{58, 120, 205}, {31, 158, 137}, {200, 150, 30}}};
  const double at = std::clamp(share, 0.0, 1.0) * 2;
  const size_t i = at < 1 ? 0 : 1;
  const auto mix = [&](size_t k) {
    return static_cast<int>(kStops[i][k] + (kStops[i + 1][k] - kStops[i][k]) * (at - i));
  };
  return absl::StrFormat("rgb(%d,%d,%d)", mix(0), mix(1), mix(2));
}

// A few at even distances, the first and the last among them.
std::vector<const Spectrum*> Thinned(const std::vector<const Spectrum*>& all) {
  if (all.size() <= kMostSpectra) return all;
  std::vector<const Spectrum*> some;
  for (size_t i = 0; i < kMostSpectra; ++i) {
    some.push_back(all[i * (all.size() - 1) / (kMostSpectra - 1)]);
  }
  return some;
}

std::string SpectraPanel(const std::string& title, const std::vector<const Spectrum*>& all,
                         int64_t last_layer) {
  LineChart chart{.label = absl::StrCat("Spectra of ", title),
                  .x_title = "slice",
                  .is_x_log = true,
                  .is_y_log = true,
                  .y_least = kLeastShare};
  for (const Spectrum* s : Thinned(all)) {
    const int64_t layer = LayerOf(s->linear).value_or(0);
    LineSeries line{.tooltip = absl::StrFormat("%s\n99%% within rank %d of %d", s->linear,
                                               s->rank_99, s->largest_rank),
                    .style = "stroke:" + DepthColor(static_cast<double>(layer) /
                                                    std::max<double>(1, last_layer)),
                    .y = s->share};
    for (const int64_t k : s->index) line.x.push_back(static_cast<double>(k + 1));
    chart.series.push_back(std::move(line));
  }
  return absl::StrCat("<div class=\"panel\"><h3>", Escape(title), "</h3>",
                      DrawLines(chart, 250, 190), "</div>\n");
}

}  // namespace

std::string LayerErrorSection(const Exploration& e) {
  const std::vector<const PointResult*> points = PointsToDraw(e);
  if (points.empty()) return "";
  LineChart chart{.label = "Error by layer",
                  .x_title = "layer",
                  .y_title = absl::StrCat("mean ", ErrorName(*points.front())),
                  .y_from_zero = true};
  int next = 1;
  for (const PointResult* p : points) {
    std::map<int64_t, std::pair<double, int>> by_layer;
    for (const LinearError& linear : p->linears) {
      auto& [sum, count] = by_layer[LayerOf(linear.name).value_or(0)];
      sum += ErrorOf(linear);
      ++count;
    }
    LineSeries line{.name = p->name, .tooltip = p->name, .color = next++};
    for (const auto& [layer, sum] : by_layer) {
      line.x.push_back(static_cast<double>(layer));
      line.y.push_back(sum.first / sum.second);
    }
    chart.series.push_back(std::move(line));
  }
  return absl::StrCat(
      "<section class=\"chart layers\"><h2>Error by layer</h2><p>Mean over the layer's linears of ",
      IsWeighted(*points.front()) ? "the weighted error, sqrt(E|y \u2212 y\u2032|\u00b2 / "
                                    "E|y|\u00b2) over the calibration text. "
                                  : "the relative error of the weights. ",
      "Points of the frontier, then the best of each other family.</p>", WideAndNarrow(chart),
      "</section>\n");
}

std::string SensitivitySection(const Exploration& e) {
  HeatCells cells;
  std::string caption;
  if (!e.sensitivity.empty()) {
    double low = 1e300, high = 0;
    for (const Sensitivity& s : e.sensitivity) {
      low = std::min(low, s.share);
      high = std::max(high, s.share);
      cells.Add(s.linear, s.increase, absl::StrCat("rank ", s.rank, ": loss rises by"));
    }
    const std::string shares = absl::StrFormat("%.0f%%", 100 * low);
    const std::string most = absl::StrFormat("%.0f%%", 100 * high);
    caption = absl::StrCat(
        "Measured: by how much the model's loss rises, in nats per token, when one linear alone is "
        "cut to ",
        shares, shares == most ? "" : " to " + most,
        " of its parameters. Dark linears bear compression badly.");
  } else if (const PointResult* p = MostCompressed(e); p != nullptr) {
    for (const LinearError& linear : p->linears)
      cells.Add(linear.name, ErrorOf(linear), ErrorName(*p));
    caption =
        absl::StrCat("The ", ErrorName(*p), " of each linear at the smallest budget: ", p->name,
                     ". Dark linears bear compression badly.");
  }
  if (cells.layers.empty()) return "";
  return absl::StrCat("<section class=\"chart heat\"><h2>Sensitivity</h2><p>", Escape(caption),
                      "</p>", DrawCells(cells, "Sensitivity by layer and matrix"), "</section>\n");
}

std::string SpectraSection(const Exploration& e) {
  if (e.spectra.empty()) return "";
  std::vector<std::string> types;
  std::map<std::string, std::vector<const Spectrum*>> by_type;
  int64_t last_layer = 0;
  for (const Spectrum& s : e.spectra) {
    const std::string type = TypeOf(s.linear);
    if (by_type.find(type) == by_type.end()) types.push_back(type);
    by_type[type].push_back(&s);
    last_layer = std::max(last_layer, LayerOf(s.linear).value_or(0));
  }
  const std::vector<std::string> names = ShortTypes(types);
  std::string panels;
  for (size_t i = 0; i < types.size(); ++i) {
    panels += SpectraPanel(names[i], by_type[types[i]], last_layer);
  }
  return absl::StrCat(
      "<section class=\"chart spectra\"><h2>Spectra</h2><p>Share of each slice (squared singular "
      "value of ",
      e.calibration_tokens > 0 ? "W H<sup>\u00bd</sup>, the loss of dropping it" : "W",
      ") by its rank, both logarithmic. The steeper, the less a low rank loses.</p><p>layer 0 "
      "<span class=\"ramp\" style=\"background:linear-gradient(90deg,",
      DepthColor(0), ",", DepthColor(0.5), ",", DepthColor(1), ")\"></span> layer ", last_layer,
      "</p><div class=\"small\">", panels, "</div></section>\n");
}

}  // namespace rankine
