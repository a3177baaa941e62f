// points.csv and explore.json.
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "models/files/json_text.h"
#include "tools/explore/json_file.h"
#include "tools/explore/point_json.h"
#include "tools/explore/report/report.h"
#include "tools/explore/spectra_json.h"

namespace rankine {
namespace {

using Json = nlohmann::ordered_json;

// RFC 4180.
std::string Quoted(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  return absl::StrCat("\"", absl::StrReplaceAll(text, {{"\"", "\"\""}}), "\"");
}

std::string Number(double value) { return absl::StrFormat("%.9g", value); }
std::string Number(const std::optional<double>& value) { return value ? Number(*value) : ""; }

// Column names and the cells of one point, side by side.
using Cells = std::vector<std::pair<std::string, std::string>>;

void AddEstimate(const std::string& name, const Estimate& e, Cells* cells) {
  cells->emplace_back(name, Number(e.value));
  cells->emplace_back(name + " standard error", Number(e.standard_error));
}

void AddSpeed(const std::optional<SpeedResult>& speed, Cells* cells) {
  const auto value = [&](double SpeedResult::*field) {
    return speed ? Number((*speed).*field) : "";
  };
  cells->emplace_back("prefill tokens/s", value(&SpeedResult::prefill_tokens_per_second));
  cells->emplace_back("decode tokens/s", value(&SpeedResult::decode_tokens_per_second));
  for (const auto& [name, field] : {std::pair{"prefill", &SpeedResult::prefill_ratio},
                                    std::pair{"decode", &SpeedResult::decode_ratio}}) {
    const std::string ratio = absl::StrCat(name, " ratio to dense");
    cells->emplace_back(ratio, speed ? Number(((*speed).*field).median) : "");
    cells->emplace_back(ratio + " low", speed ? Number(((*speed).*field).low) : "");
    cells->emplace_back(ratio + " high", speed ? Number(((*speed).*field).high) : "");
  }
  cells->emplace_back("weight bytes per token",
                      speed ? absl::StrCat(speed->weight_bytes_per_token) : "");
}

Cells CellsOf(const PointResult& p, bool on_size_frontier, bool on_speed_frontier) {
  Cells cells = {{"name", p.name},
                 {"kind", std::string(KindName(p.kind))},
                 {"family", p.family},
                 {"recipe", p.recipe},
                 {"linear bytes", absl::StrCat(p.size.linear_bytes)},
                 {"bytes", absl::StrCat(p.size.bytes)},
                 {"bits per weight", Number(p.size.bits_per_weight())},
                 {"parameters kept", Number(p.parameters_kept)},
                 {"mean relative error", Number(p.MeanRelativeError())},
                 {"mean weighted error", Number(p.MeanWeightedError())}};
  for (const TextResult& t : p.texts) {
    AddEstimate(t.text + " perplexity", t.perplexity, &cells);
    AddEstimate(t.text + " log perplexity difference", t.log_difference, &cells);
    AddEstimate(t.text + " KL", t.kl, &cells);
    AddEstimate(t.text + " KL p99", t.kl_p99, &cells);
    AddEstimate(t.text + " top-1 agreement", t.top1, &cells);
  }
  AddSpeed(p.speed, &cells);
  cells.emplace_back("make seconds", Number(p.make_seconds));
  cells.emplace_back("on size frontier", on_size_frontier ? "1" : "0");
  cells.emplace_back("on speed frontier", on_speed_frontier ? "1" : "0");
  return cells;
}

}  // namespace

std::string PointsCsv(const Exploration& e) {
  std::string csv;
  for (size_t i = 0; i < e.points.size(); ++i) {
    const Cells cells = CellsOf(e.points[i], e.on_size_frontier[i], e.on_speed_frontier[i]);
    const auto line = [&](auto field) {
      std::vector<std::string> columns;
      for (const auto& cell : cells) columns.push_back(Quoted(cell.*field));
      return absl::StrJoin(columns, ",") + "\r\n";
    };
    if (i == 0) csv += line(&Cells::value_type::first);
    csv += line(&Cells::value_type::second);
  }
  return csv;
}

std::string ExplorationJson(const Exploration& e) {
  Json json = {{"model", e.model_name},
               {"device", e.device},
               {"compute", e.compute},
               {"context", e.evaluator.context},
               {"calibration_tokens", e.calibration_tokens},
               {"complete", e.is_complete},
               {"points", Json::array()},
               {"unmeasured", Json::array()},
               {"spectra", SpectraJson(e.spectra)},
               {"sensitivity", Json::array()}};
  for (size_t i = 0; i < e.points.size(); ++i) {
    Json point = PointToJson(e.points[i]);
    point["on_size_frontier"] = static_cast<bool>(e.on_size_frontier[i]);
    point["on_speed_frontier"] = static_cast<bool>(e.on_speed_frontier[i]);
    json["points"].push_back(std::move(point));
  }
  for (const UnmeasuredPoint& p : e.unmeasured) {
    json["unmeasured"].push_back({{"name", p.name},
                                  {"recipe", p.recipe},
                                  {"why", std::string(WhyName(p.why))},
                                  {"reason", p.reason}});
  }
  for (const Sensitivity& s : e.sensitivity) {
    json["sensitivity"].push_back({{"linear", s.linear},
                                   {"rank", s.rank},
                                   {"share", s.share},
                                   {"loss_increase", s.increase}});
  }
  return DumpJson(json, 1) + "\n";
}

}  // namespace rankine
