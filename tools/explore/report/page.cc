// The page around the charts: summary, table of points, what was not measured.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/explore/report/charts.h"
#include "tools/explore/report/report.h"
#include "tools/explore/report/style.h"
#include "tools/explore/report/svg.h"

namespace rankine {
namespace {

// A cell of the table: `value` is what it is sorted by.
std::string Cell(const std::string& value, const std::string& html) {
  return absl::StrCat("<td data-value=\"", Escape(value), "\">", html, "</td>");
}

std::string Number(double value, const std::string& text) {
  return Cell(absl::StrFormat("%.9g", value), text);
}

std::string Maybe(const std::optional<double>& value, int digits) {
  if (!value) return Cell("", "\u2013");
  return Number(*value, absl::StrFormat("%.*f", digits, *value));
}

std::string WithError(const Estimate& e, int digits, bool is_signed = false) {
  std::string text = e.value >= 1e4 ? ShortNumber(e.value)
                     : is_signed    ? absl::StrFormat("%+.*f", digits, e.value)
                                    : absl::StrFormat("%.*f", digits, e.value);
  if (e.standard_error) {
    absl::StrAppend(&text, " <span class=\"error\">\u00b1 ",
                    *e.standard_error >= 1e4 ? ShortNumber(*e.standard_error)
                                             : absl::StrFormat("%.*f", digits, *e.standard_error),
                    "</span>");
  }
  return Number(e.value, text);
}

std::string Speed(double tokens_per_second, const Interval& ratio) {
  return Number(ratio.median,
                absl::StrFormat("%.0f <span class=\"error\">\u00d7%.2f [%.2f, "
                                "%.2f]</span>",
                                tokens_per_second, ratio.median, ratio.low, ratio.high));
}

std::string Row(const PointResult& p, bool is_best) {
  const double scale = 1e-6;
  const auto linear_bytes = static_cast<double>(p.size.linear_bytes);
  const auto bytes = static_cast<double>(p.size.bytes);
  std::string row = absl::StrCat(
      "<tr", is_best ? " class=\"best\"" : "", ">", Cell(p.name, Escape(p.name)),
      Number(linear_bytes, absl::StrFormat("%.1f", linear_bytes * scale)),
      Number(bytes, absl::StrFormat("%.1f", bytes * scale)),
      Number(p.size.bits_per_weight(), absl::StrFormat("%.2f", p.size.bits_per_weight())),
      Number(p.parameters_kept, absl::StrFormat("%.3f", p.parameters_kept)),
      Maybe(p.MeanRelativeError(), 4), Maybe(p.MeanWeightedError(), 4));
  for (const TextResult& t : p.texts) {
    absl::StrAppend(&row, WithError(t.perplexity, 2), WithError(t.log_difference, 3, true),
                    WithError(t.kl, 4), WithError(t.kl_p99, 2), WithError(t.top1, 3));
  }
  if (p.speed) {
    absl::StrAppend(&row, Speed(p.speed->prefill_tokens_per_second, p.speed->prefill_ratio),
                    Speed(p.speed->decode_tokens_per_second, p.speed->decode_ratio));
  } else {
    absl::StrAppend(&row, Cell("", "\u2013"), Cell("", "\u2013"));
  }
  return absl::StrCat(row, Maybe(p.make_seconds, 0), "</tr>\n");
}

std::string Head(const Exploration& e) {
  std::vector<std::string> names = {"point",           "linears, MB",     "all weights, MB",
                                    "bits per weight", "parameters kept", "relative error",
                                    "weighted error"};
  for (const TextResult& t : e.points.front().texts) {
    for (const char* figure : {"perplexity", "log perplexity against dense, nats", "KL, nats",
                               "KL p99, nats", "top-1 agreement"}) {
      names.push_back(absl::StrCat(t.text, ": ", figure));
    }
  }
  names.insert(names.end(), {"prefill, tokens/s", "decode, tokens/s", "made in, s"});
  std::string row = "<tr>";
  for (const std::string& name : names) {
    absl::StrAppend(&row, "<th scope=\"col\"><button type=\"button\">", Escape(name),
                    "</button></th>");
  }
  return row + "</tr>\n";
}

std::string TableSection(const Exploration& e) {
  if (e.points.empty()) return "";
  std::string rows, recipes;
  for (size_t i = 0; i < e.points.size(); ++i) {
    rows += Row(e.points[i], e.on_size_frontier[i]);
    const PointResult& p = e.points[i];
    if (p.kind == PointKind::kDense) continue;
    const char* command = p.kind == PointKind::kFactorize ? "rankine factorize MODEL OUT "
                          : p.kind == PointKind::kEncode  ? "rankine convert MODEL OUT --encode "
                                                          : "as it is: ";
    absl::StrAppend(&recipes, "<li>", Escape(p.name), ": <code>", command, Escape(p.recipe),
                    "</code></li>\n");
  }
  return absl::StrCat(
      "<section id=\"points\"><h2>All points</h2><p>\u2605 is on the frontier of size and loss. "
      "\u00b1 is a "
      "standard error over windows, paired with the dense model where it says against dense. "
      "Speeds are medians, with the ratio to the dense model in the same minutes and its 95% "
      "interval. Click a heading to sort.</p><div class=\"scroll\"><table "
      "class=\"sortable\"><thead>",
      Head(e), "</thead><tbody>\n", rows,
      "</tbody></table></div><details><summary>How each was made</summary><ul>", recipes,
      "</ul></details></section>\n");
}

std::string UnmeasuredSection(const Exploration& e) {
  if (e.unmeasured.empty()) return "";
  std::string rows;
  for (const UnmeasuredPoint& p : e.unmeasured) {
    absl::StrAppend(&rows, "<tr><td>", Escape(p.name), "</td><td class=\"left\">",
                    std::string(WhyName(p.why)), "</td><td class=\"words\">", Escape(p.reason),
                    "</td></tr>\n");
  }
  return absl::StrCat(
      "<section id=\"unmeasured\"><h2>Not measured</h2><p>A pruned point is dominated whatever its "
      "loss (docs/explore.md has the rule); --no-prune measures it.</p><div "
      "class=\"scroll\"><table><thead><tr><th>point</th><th "
      "class=\"left\">why</th><th></th></tr></thead><tbody>",
      rows, "</tbody></table></div></section>\n");
}

std::string Tile(const std::string& value, const std::string& what) {
  return absl::StrCat("<div class=\"tile\"><b>", Escape(value), "</b><span>", Escape(what),
                      "</span></div>");
}

std::string Tiles(const Exploration& e) {
  std::string tiles = Tile(absl::StrCat(e.points.size()), "points measured");
  tiles +=
      Tile(absl::StrCat(std::count(e.on_size_frontier.begin(), e.on_size_frontier.end(), true)),
           "of them on the frontier");
  for (const PointResult& p : e.points) {
    if (p.kind != PointKind::kDense) continue;
    for (const TextResult& t : p.texts) {
      tiles += Tile(ShortNumber(t.perplexity.value),
                    absl::StrCat("dense perplexity, ", t.text, ": ", t.windows, " \u00d7 ",
                                 e.evaluator.context, " tokens"));
    }
    if (p.speed) {
      tiles +=
          Tile(absl::StrFormat("%.0f tokens/s", p.speed->decode_tokens_per_second), "dense decode");
    }
  }
  return absl::StrCat("<div class=\"tiles\">", tiles, "</div>\n");
}

std::string Summary(const Exploration& e) {
  std::string text = absl::StrCat(e.device, ", ", e.compute);
  if (e.calibration_tokens > 0) {
    absl::StrAppend(&text, ", calibrated on ", e.calibration_tokens, " tokens");
  }
  return text;
}

}  // namespace

std::string ExplorationHtml(const Exploration& e) {
  const std::string title = absl::StrCat("Compressing ", e.model_name);
  return absl::StrCat(
      "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\"><head><meta "
      "charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width, "
      "initial-scale=1\"/><title>",
      Escape(title), "</title>\n<style>", std::string(kReportStyle),
      "</style></head><body><main>\n<h1>", Escape(title), "</h1><p class=\"soft\">",
      Escape(Summary(e)), "</p>\n",
      e.is_complete ? "" : "<p class=\"notice\">Not complete: the same command goes on.</p>\n",
      Tiles(e), SizeSection(e), SpeedSection(e), TableSection(e), LayerErrorSection(e),
      SensitivitySection(e), SpectraSection(e), UnmeasuredSection(e), "</main>\n<script>",
      std::string(kReportScript), "</script></body></html>\n");
}

}  // namespace rankine
