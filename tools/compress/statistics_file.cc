// Statistics on disk: a JSON header {stamp, groups: [{linears, tokens, features, group_tokens}]},
// then for each group, in f64, the mean, the mean of |x|, the means of the groups of sequences, and
// the rows of the lower triangle of H.
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/files/json_text.h"
#include "nlohmann/json.hpp"
#include "tools/compress/record_file.h"
#include "tools/compress/statistics.h"

namespace rankine {
namespace {

void AppendDoubles(const double* values, int64_t count, std::string* out) {
  out->append(reinterpret_cast<const char*>(values), static_cast<size_t>(count) * sizeof(double));
}

// Doubles of a group: 2 + `groups` means and a triangle.
int64_t GroupDoubles(int64_t n, int64_t groups) { return (2 + groups) * n + n * (n + 1) / 2; }

const char* TakeDoubles(const char* data, int64_t count, double* out) {
  std::memcpy(out, data, static_cast<size_t>(count) * sizeof(double));
  return data + count * sizeof(double);
}

const char* TakeMoments(const char* data, Moments* m) {
  const auto n = static_cast<int64_t>(m->mean.size());
  data = TakeDoubles(data, n, m->mean.data());
  data = TakeDoubles(data, n, m->mean_absolute.data());
  data = TakeDoubles(data, m->group_means.rows * n, m->group_means.values.data());
  for (int64_t i = 0; i < n; ++i) {
    data = TakeDoubles(data, i + 1, m->second.Row(i));
    for (int64_t j = 0; j < i; ++j) m->second(j, i) = m->second(i, j);
  }
  return data;
}

absl::StatusOr<LayerStatistics> Parse(const std::string& path, const nlohmann::json& header,
                                      const std::string& payload) {
  LayerStatistics statistics;
  const char* data = payload.data();
  auto left = static_cast<int64_t>(payload.size() / sizeof(double));
  for (const auto& g : header.at("groups")) {
    const int64_t n = g.at("features");
    // A digest guards the file, so this can only fail for a file made by other means.
    std::vector<int64_t> group_tokens = g.at("group_tokens");
    const auto groups = static_cast<int64_t>(group_tokens.size());
    if (n < 1 || n > (int64_t{1} << 24) || groups > left || GroupDoubles(n, groups) > left) {
      return absl::DataLossError(absl::StrCat(path, " is shorter than its header says"));
    }
    left -= GroupDoubles(n, groups);
    GroupStatistics group{.linears = g.at("linears"),
                          .moments = {.tokens = g.at("tokens"), .second = Matrix64(n, n)}};
    group.moments.mean.resize(n);
    group.moments.mean_absolute.resize(n);
    group.moments.group_means = Matrix64(groups, n);
    group.moments.group_tokens = std::move(group_tokens);
    data = TakeMoments(data, &group.moments);
    statistics.groups.push_back(std::move(group));
  }
  return statistics;
}

}  // namespace

absl::Status WriteStatistics(const std::string& path, const std::string& stamp,
                             const LayerStatistics& statistics) {
  nlohmann::ordered_json header{{"stamp", stamp}, {"groups", nlohmann::ordered_json::array()}};
  Record record;
  for (const GroupStatistics& g : statistics.groups) {
    const Matrix64& h = g.moments.second;
    header["groups"].push_back({{"linears", g.linears},
                                {"tokens", g.moments.tokens},
                                {"features", h.rows},
                                {"group_tokens", g.moments.group_tokens}});
    AppendDoubles(g.moments.mean.data(), h.rows, &record.payload);
    AppendDoubles(g.moments.mean_absolute.data(), h.rows, &record.payload);
    const std::vector<double>& means = g.moments.group_means.values;
    AppendDoubles(means.data(), static_cast<int64_t>(means.size()), &record.payload);
    for (int64_t i = 0; i < h.rows; ++i) AppendDoubles(h.Row(i), i + 1, &record.payload);
  }
  record.header = DumpJson(header);
  return WriteRecord(path, record);
}

absl::StatusOr<LayerStatistics> ReadStatistics(const std::string& path, const std::string& stamp) {
  auto record = ReadRecord(path);
  if (!record.ok()) return record.status();
  try {
    const auto header = nlohmann::json::parse(record->header);
    if (header.at("stamp") != stamp) {
      return absl::FailedPreconditionError(absl::StrCat(
          path,
          " holds statistics of another model or calibration text; name another folder or "
          "delete this one"));
    }
    return Parse(path, header, record->payload);
  } catch (const nlohmann::json::exception& e) {
    return absl::DataLossError(absl::StrCat(path, " has a bad header: ", e.what()));
  }
}

}  // namespace rankine
