#include "tools/explore/sensitivity.h"

#include <numeric>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "models/status_macros.h"
#include "tools/compress/linears.h"
#include "tools/compress/search/measured_points.h"

namespace rankine {
namespace {

double Mean(const std::vector<double>& losses) {
  return std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(losses.size());
}

double ShareAt(const LinearInfo& linear, int64_t rank) {
  const auto out = static_cast<double>(linear.out_features());
  const auto in = static_cast<double>(linear.in_features());
  return static_cast<double>(rank) * (out + in) / (out * in);
}

}  // namespace

absl::StatusOr<std::vector<Sensitivity>> ReadSensitivities(const std::string& path,
                                                           const Checkpoint& dense,
                                                           const std::string& model_digest) {
  RK_ASSIGN_OR_RETURN(const MeasuredLosses losses, ReadMeasuredLosses(path));
  if (losses.info.model_digest != model_digest) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " holds losses of another model: it was made from ",
                     losses.info.model_name, "; measure this one's"));
  }
  const auto as_it_is = losses.points.find({});
  if (as_it_is == losses.points.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path,
                     " lacks the loss of the model as it is; let the search that makes it "
                     "go on"));
  }
  RK_ASSIGN_OR_RETURN(const std::vector<LinearInfo> linears, SelectLinears(dense, "", ""));
  std::vector<Sensitivity> result;
  for (const LinearInfo& linear : linears) {
    // Ranks rise within a name.
    const auto least = losses.points.lower_bound({{linear.name, 0}});
    const auto is_alone = [&](const Ranks& ranks) {
      return ranks.size() == 1 && ranks.begin()->first == linear.name;
    };
    for (auto point = least; point != losses.points.end(); ++point) {
      if (point->first.empty() || point->first.begin()->first != linear.name) break;
      if (!is_alone(point->first)) continue;
      const int64_t rank = point->first.begin()->second;
      result.push_back({.linear = linear.name,
                        .rank = rank,
                        .share = ShareAt(linear, rank),
                        .increase = Mean(point->second) - Mean(as_it_is->second)});
      break;
    }
  }
  if (result.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path,
                     " has no loss of a linear alone; rankine factorize --allocation "
                     "sensitivity --search-file measures those"));
  }
  return result;
}

}  // namespace rankine
