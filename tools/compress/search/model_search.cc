#include "tools/compress/search/model_search.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// The largest rank that a search may ask of each linear: any that is smaller than dense, or, where
// the policy has no budget, all but the full one.
Ranks LargestRanks(const ModelSearchArgs& args, bool has_budget) {
  Ranks largest;
  for (const LinearInfo& l : *args.linears) {
    const int64_t m = l.out_features(), n = l.in_features();
    int64_t rank = std::min(m, n);
    if (has_budget && args.job->encoding.IsFloat()) rank = std::min(rank, (m * n - 1) / (m + n));
    if (rank > 0) largest[l.name] = rank;
  }
  return largest;
}

}  // namespace

absl::StatusOr<CalibrationText> ReadValidationText(const Checkpoint& checkpoint,
                                                   const FactorizeOptions& options,
                                                   const std::string& calibration_digest) {
  RK_ASSIGN_OR_RETURN(CalibrationText text,
                      ReadCalibrationText(checkpoint, {.files = options.validation_files,
                                                       .windows = options.validation_windows,
                                                       .window = options.validation_window,
                                                       .what = "validation"}));
  if (text.digest == calibration_digest) {
    return absl::InvalidArgumentError(
        "the validation text is the calibration text: what is fitted to a text says little by its "
        "loss there; give another file");
  }
  return text;
}

absl::StatusOr<std::unique_ptr<RankLosses>> StartModelSearch(ModelSearchArgs args) {
  const FactorizeOptions& o = *args.options;
  RK_ASSIGN_OR_RETURN(const AllocationPolicy* policy, FindAllocationPolicy(o.allocation));
  const std::string path =
      o.search_file.empty() ? args.work_folder + "/measured_losses.jsonl" : o.search_file;
  RK_ASSIGN_OR_RETURN(MeasuredPoints points,
                      MeasuredPoints::Open(path, {.model_digest = args.model_digest,
                                                  .model_name = args.model_name,
                                                  .text_digest = args.text.digest,
                                                  .windows = o.validation_windows,
                                                  .window = o.validation_window,
                                                  .made_by = args.made_by}));
  return std::make_unique<RankLosses>(
      RankLosses::Args{.checkpoint = args.job->checkpoint,
                       .windows = std::move(args.text.windows),
                       .points = std::move(points),
                       .bank = SliceBank({.factor = args.factor, .statistics = args.statistics},
                                         LargestRanks(args, policy->has_budget), args.work_folder),
                       .threads = o.threads,
                       .progress = [progress = args.progress](int64_t measured) {
                         return progress(absl::StrCat("searching ranks: ", measured, " measured"));
                       }});
}

absl::StatusOr<SearchReport> ReportOfSearch(const Allocation& allocation,
                                            const std::vector<LinearInfo>& linears,
                                            RankLosses* losses) {
  // The file may hold points of other linears.
  std::set<std::string> selected;
  for (const LinearInfo& l : linears) selected.insert(l.name);
  SearchReport report;
  Ranks ranks;
  for (const auto& [name, budget] : allocation) ranks[name] = budget.rank;
  RK_ASSIGN_OR_RETURN(report.unchanged, losses->Measure({}));
  RK_ASSIGN_OR_RETURN(report.planned, losses->Measure(ranks));
  report.measured = losses->measured();
  for (const auto& [alone, windows] : losses->points()) {
    if (alone.size() != 1 || selected.count(alone.begin()->first) == 0) continue;
    RK_ASSIGN_OR_RETURN(const MeasuredLoss loss, losses->Measure(alone));
    if (!report.best_linear.empty() && loss.loss >= report.best.loss) continue;
    report.best_linear = alone.begin()->first;
    report.best_rank = alone.begin()->second;
    report.best = loss;
  }
  return report;
}

}  // namespace rankine
