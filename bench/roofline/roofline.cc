// rankine_roofline: what this machine can do at best. Read bandwidth by level of the memory
// hierarchy and peak operations by dtype, for each number of threads: the denominators of every
// other figure.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "kernels/cpu/machine_levels.h"
#include "kernels/cpu/machine_peak.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/op_table.h"

namespace rankine {
namespace {

struct Level {
  std::string name;
  int64_t bytes_per_thread = 0;  // 0: from memory, by the probe that `rankine bench` uses
};

struct Row {
  int threads = 0;
  std::vector<double> bytes_per_second;       // by level
  std::vector<double> operations_per_second;  // by kind
};

struct Kind {
  const char* name;
  FlopKind kind;
};
constexpr Kind kKinds[] = {
    {"f32", FlopKind::kF32}, {"bf16", FlopKind::kBF16}, {"int8", FlopKind::kInt8}};

// Half of each cache, so that little else falls out of it: of the shared one, half of a share, but
// more than a second level holds.
std::vector<Level> LevelsFor(const CacheSizes& sizes, int max_threads) {
  std::vector<Level> levels;
  if (sizes.l1 > 0) levels.push_back({"L1", sizes.l1 / 2});
  if (sizes.l2 > 0) levels.push_back({"L2", sizes.l2 / 2});
  const int64_t share = sizes.l3 / 2 / max_threads;
  if (share > 2 * sizes.l2) levels.push_back({"L3", share});
  levels.push_back({"memory", 0});
  return levels;
}

std::vector<int> ThreadCounts(int max_threads) {
  std::vector<int> counts;
  for (int threads = 1; threads < max_threads; threads *= 2) counts.push_back(threads);
  counts.push_back(max_threads);
  return counts;
}

Row Measure(int threads, const std::vector<Level>& levels, ReadProbe& probe, int repeats) {
  ThreadPool pool(threads);
  const Stream stream{&pool};
  Row row{.threads = threads};
  for (const Level& level : levels) {
    row.bytes_per_second.push_back(
        level.bytes_per_thread == 0
            ? probe.Measure(stream, repeats)
            : MeasureCachedBandwidth(stream, level.bytes_per_thread, repeats));
  }
  for (const Kind& kind : kKinds) {
    row.operations_per_second.push_back(MeasurePeakFlops(stream, kind.kind, repeats));
  }
  return row;
}

void PrintTable(const CacheSizes& sizes, const std::vector<Level>& levels,
                const std::vector<Row>& rows) {
  absl::PrintF("%s; L1 %d KiB and L2 %d KiB a core, L3 %d KiB shared\n%7s", BestCpuOps().name,
               sizes.l1 >> 10, sizes.l2 >> 10, sizes.l3 >> 10, "threads");
  for (const Level& level : levels) absl::PrintF(" %12s", level.name + " GB/s");
  for (const Kind& kind : kKinds) absl::PrintF(" %13s", std::string(kind.name) + " Gop/s");
  absl::PrintF("\n");
  for (const Row& row : rows) {
    absl::PrintF("%7d", row.threads);
    for (const double v : row.bytes_per_second) absl::PrintF(" %12.1f", v * 1e-9);
    for (const double v : row.operations_per_second) absl::PrintF(" %13.1f", v * 1e-9);
    absl::PrintF("\n");
  }
}

void PrintJson(const CacheSizes& sizes, const std::vector<Level>& levels,
               const std::vector<Row>& rows) {
  nlohmann::ordered_json json = {
      {"isa", BestCpuOps().name},
      {"cache_bytes", {{"l1", sizes.l1}, {"l2", sizes.l2}, {"l3", sizes.l3}}},
      {"rows", nlohmann::ordered_json::array()}};
  for (const Row& row : rows) {
    nlohmann::ordered_json entry = {{"threads", row.threads}};
    for (size_t i = 0; i < levels.size(); ++i)
      entry["bytes_per_second"][levels[i].name] = row.bytes_per_second[i];
    for (size_t i = 0; i < std::size(kKinds); ++i)
      entry["operations_per_second"][kKinds[i].name] = row.operations_per_second[i];
    json["rows"].push_back(std::move(entry));
  }
  absl::PrintF("%s\n", json.dump());
}

int Main(int argc, char** argv) {
  int max_threads = DefaultNumThreads(), repeats = 5;
  bool json = false;
  CLI::App app("Measure read bandwidth by memory level and peak operations by dtype",
               "rankine_roofline");
  app.add_option("--threads", max_threads, "The most threads")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  app.add_option("--repeat", repeats, "Repetitions; the best counts")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_flag("--json", json, "Print JSON");
  CLI11_PARSE(app, argc, argv);
  const CacheSizes sizes = HostCacheSizes();
  const std::vector<Level> levels = LevelsFor(sizes, max_threads);
  ReadProbe probe;
  std::vector<Row> rows;
  for (const int threads : ThreadCounts(max_threads)) {
    rows.push_back(Measure(threads, levels, probe, repeats));
  }
  json ? PrintJson(sizes, levels, rows) : PrintTable(sizes, levels, rows);
  return 0;
}

}  // namespace
}  // namespace rankine

int main(int argc, char** argv) { return rankine::Main(argc, argv); }
