// rankine_plan_bench: predicted against measured time of plans over a committed list of cells, and
// whether the planner chose well.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_format.h"
#include "bench/plan/cell.h"
#include "bench/plan/measure.h"
#include "tools/measure/profile.h"
#include "tools/measure/statistics.h"

namespace rankine {
namespace {

using Json = nlohmann::ordered_json;

// A choice is good when it takes at most this times the best candidate's time.
constexpr double kGoodRatio = 1.1;

struct Flags {
  std::string cells = RANKINE_PLAN_CELLS, only;
  int threads = 0;
  MeasureOptions measure;
  bool json = false, csv = false;
};

struct Summary {
  double median_error = 0;
  double share_good = 0;
};

Summary Summarise(const std::vector<CellResult>& results) {
  std::vector<double> errors;
  int good = 0;
  for (const CellResult& r : results) {
    errors.push_back(r.error());
    good += r.ratio_to_best() <= kGoodRatio;
  }
  return {.median_error = Median(errors),
          .share_good = static_cast<double>(good) / static_cast<double>(results.size())};
}

const CandidateTime& Best(const CellResult& result) {
  return *std::min_element(result.candidates.begin(), result.candidates.end(),
                           [](const CandidateTime& a, const CandidateTime& b) {
                             return a.measured_microseconds < b.measured_microseconds;
                           });
}

std::string CsvLine(const CellResult& r) {
  return absl::StrFormat("\"%s\",%d,\"%s\",%d,%.2f,%.2f,%.4f,%d,\"%s\",%.4f\n", r.cell->matrix,
                         r.cell->tokens, r.choice().expression, r.weight_bytes,
                         r.choice().predicted_microseconds, r.choice().measured_microseconds,
                         r.error(), r.candidates.size(), Best(r).expression, r.ratio_to_best());
}

std::string TableLine(const CellResult& r) {
  return absl::StrFormat(
      "%-52s %6d %11.1f %11.1f %+6.0f%% %6.2f  %s%s\n", r.cell->matrix, r.cell->tokens,
      r.choice().predicted_microseconds, r.choice().measured_microseconds,
      100 * (r.choice().predicted_microseconds / r.choice().measured_microseconds - 1),
      r.ratio_to_best(), r.choice().expression,
      r.ratio_to_best() > kGoodRatio ? "  best: " + Best(r).expression : "");
}

Json CellJson(const CellResult& r) {
  Json json = {{"matrix", r.cell->matrix},           {"tokens", r.cell->tokens},
               {"weight_bytes", r.weight_bytes},     {"error", r.error()},
               {"ratio_to_best", r.ratio_to_best()}, {"candidates", Json::array()}};
  for (const CandidateTime& c : r.candidates) {
    json["candidates"].push_back({{"expression", c.expression},
                                  {"predicted_microseconds", c.predicted_microseconds},
                                  {"measured_microseconds", c.measured_microseconds}});
  }
  return json;
}

absl::StatusOr<std::vector<Cell>> ReadCells(const Flags& flags) {
  std::ifstream file(flags.cells);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) return absl::NotFoundError(flags.cells + ": cannot read");
  auto cells = ParseCells(text.str(), flags.cells);
  if (!cells.ok()) return cells;
  std::erase_if(
      *cells, [&](const Cell& cell) { return cell.matrix.find(flags.only) == std::string::npos; });
  if (cells->empty()) return absl::InvalidArgumentError("--only: no cell has that text");
  return cells;
}

// Runs of cells of the same matrix.
std::vector<std::vector<const Cell*>> ByMatrix(const std::vector<Cell>& cells) {
  std::vector<std::vector<const Cell*>> groups;
  for (const Cell& cell : cells) {
    if (groups.empty() || groups.back()[0]->matrix != cell.matrix) groups.emplace_back();
    groups.back().push_back(&cell);
  }
  return groups;
}

absl::Status Run(const Flags& flags) {
  auto cells = ReadCells(flags);
  if (!cells.ok()) return cells.status();
  auto device = MakeCpuDevice({.num_threads = flags.threads});
  if (!device.ok()) return device.status();
  std::vector<CellResult> results;
  if (flags.csv) {
    absl::PrintF(
        "matrix,tokens,plan,weight_bytes,predicted_us,measured_us,error,candidates,best,"
        "ratio_to_best\n");
  } else if (!flags.json) {
    absl::PrintF("%-52s %6s %11s %11s %7s %6s  %s\n", "matrix", "tokens", "predicted us",
                 "measured us", "error", "/best", "plan");
  }
  for (const auto& group : ByMatrix(*cells)) {
    // Anew for each matrix: the machine's bandwidth drifts.
    const DeviceProfile profile = MeasureProfile(**device);
    auto measured = MeasureMatrix(**device, group, profile, flags.measure);
    if (!measured.ok()) {
      return absl::Status(measured.status().code(),
                          group[0]->matrix + ": " + std::string(measured.status().message()));
    }
    for (CellResult& r : *measured) {
      if (!flags.json) absl::PrintF("%s", flags.csv ? CsvLine(r) : TableLine(r));
      results.push_back(std::move(r));
    }
    std::fflush(stdout);
  }
  const Summary summary = Summarise(results);
  if (flags.json) {
    Json json = {{"device", (*device)->description()},
                 {"cells", Json::array()},
                 {"median_error", summary.median_error},
                 {"share_within_10_percent_of_best", summary.share_good}};
    for (const CellResult& r : results) json["cells"].push_back(CellJson(r));
    absl::PrintF("%s\n", json.dump());
  } else {
    absl::FPrintF(flags.csv ? stderr : stdout,
                  "%s; %d cells: median |predicted - measured| / measured %.1f%%; choice within "
                  "10%% of the best candidate in %.1f%%\n",
                  (*device)->description(), results.size(), 100 * summary.median_error,
                  100 * summary.share_good);
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Compare predicted with measured times of plans", "rankine_plan_bench");
  app.add_option("--cells", flags.cells, "A CSV file of cells (default: bench/plan/cells.csv)");
  app.add_option("--only", flags.only, "Cells whose description has this text: \"4096 x 4096\"");
  app.add_option("--threads", flags.threads, "Threads (default: the cores of this process)")
      ->check(CLI::Range(1, 1024));
  app.add_option("--rounds", flags.measure.rounds, "Of each candidate; the median counts")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_option("--candidates", flags.measure.max_candidates, "The most measured for a matrix")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_option("--round-seconds", flags.measure.round_seconds, "Least time of a round")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 10.0));
  auto* json = app.add_flag("--json", flags.json, "Print JSON, with every candidate");
  app.add_flag("--csv", flags.csv, "Print CSV")->excludes(json);
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = Run(flags);
  if (status.ok()) return 0;
  absl::FPrintF(stderr, "error: %s\n", status.message());
  return 1;
}

}  // namespace
}  // namespace rankine

int main(int argc, char** argv) { return rankine::Main(argc, argv); }
