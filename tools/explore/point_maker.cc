#include "tools/explore/point_maker.h"

#include <cctype>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/checkpoint/convert.h"
#include "models/status_macros.h"
#include "tools/compress/linears.h"
#include "tools/compress/methods/method.h"
#include "tools/compress/work_folder.h"
#include "tools/explore/linear_errors.h"
#include "tools/explore/model_size.h"
#include "tools/measure/stopwatch.h"

namespace rankine {
namespace {

namespace fs = std::filesystem;

absl::Status RemoveFolder(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (!error) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cannot remove ", path, ": ", error.message()));
}

bool IsThere(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// The key under which a point that is made but not measured is kept.
std::string MadeKey(const std::string& key) { return key + "-made"; }

}  // namespace

std::string PointMaker::FolderOf(const PointSpec& spec, const std::string& key) const {
  std::string name;
  for (const char c : spec.name) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-';
    name += plain ? c : '_';
  }
  // Names that differ in other characters only must not meet.
  return absl::StrCat(options_.models_folder, "/", name.substr(0, 80), "-", key.substr(0, 8));
}

FactorizeOptions PointMaker::OptionsOf(const PointSpec& spec) const {
  FactorizeOptions o = spec.factorize;
  o.threads = options_.threads;
  if (!o.calibration_files.empty() || !o.statistics_folder.empty()) return o;
  if (options_.statistics) o.statistics_folder = options_.statistics_path;
  const auto method = FindMethod(o.method);
  if (method.ok() && (*method)->sees_prefix) {
    o.calibration_files = options_.calibration.files;
    o.calibration_windows = options_.calibration.windows;
    o.window = options_.calibration.window;
  }
  return o;
}

// Linears that the recipe does not select are as they were.
absl::Status PointMaker::AddReport(const FactorizeReport& report, PointResult* result) const {
  RK_ASSIGN_OR_RETURN(const std::vector<LinearInfo> linears,
                      SelectLinears(*options_.dense, "", ""));
  std::map<std::string, const LayerReport*> by_name;
  bool is_weighted = false;
  for (const LayerReport& layer : report.layers) {
    by_name[layer.name] = &layer;
    is_weighted = is_weighted || layer.weighted_error.has_value();
  }
  double dense = 0, kept = 0;
  result->linears.clear();
  for (const LinearInfo& linear : linears) {
    LinearError error{.name = linear.name};
    const auto found = by_name.find(linear.name);
    const auto parameters = static_cast<double>(linear.out_features() * linear.in_features());
    dense += parameters;
    if (found == by_name.end()) {
      kept += parameters;
    } else {
      kept += static_cast<double>(found->second->kept_parameters);
      error.rank = found->second->rank;
      error.relative_error = found->second->relative_error;
      error.weighted_error = found->second->weighted_error;
    }
    if (is_weighted && !error.weighted_error) error.weighted_error = 0;
    result->linears.push_back(std::move(error));
  }
  result->parameters_kept = kept / dense;
  return absl::OkStatus();
}

absl::Status PointMaker::Factor(const PointSpec& spec, const std::string& folder,
                                const ProgressFn& progress, PointResult* result) const {
  const bool is_resumed = IsThere(WorkFolder::PathOf(folder));
  // A folder without its report says nothing about errors: make it again.
  if (!is_resumed) RK_RETURN_IF_ERROR(RemoveFolder(folder));
  const Clock::time_point start = Clock::now();
  RK_ASSIGN_OR_RETURN(const FactorizeReport report,
                      Factorize(options_.dense_path, folder, OptionsOf(spec), progress));
  if (!is_resumed) result->make_seconds = SecondsSince(start);
  return AddReport(report, result);
}

absl::Status PointMaker::Encode(const PointSpec& spec, const std::string& folder,
                                PointResult* result) const {
  RK_RETURN_IF_ERROR(RemoveFolder(folder));
  RK_ASSIGN_OR_RETURN(const EncodingTarget target, ParseEncodingTarget(spec.recipe));
  const Clock::time_point start = Clock::now();
  auto report =
      ConvertModel(*options_.dense, folder, {.encode = target, .num_threads = options_.threads});
  result->make_seconds = SecondsSince(start);
  return report.status();
}

absl::Status PointMaker::AddErrors(const Checkpoint& model, const ProgressFn& progress,
                                   PointResult* result) const {
  const ProgressReporter reporter(progress);
  auto errors = LinearErrorsOf(
      {.dense = options_.dense,
       .model = &model,
       .statistics = options_.statistics ? &*options_.statistics : nullptr,
       .threads = options_.threads,
       .progress = [&](double f) { return reporter.Report(f, "errors of its linears"); }});
  // Another model may be compared as well, but not layer by layer.
  if (absl::IsFailedPrecondition(errors.status())) return absl::OkStatus();
  if (!errors.ok()) return errors.status();
  result->linears = *std::move(errors);
  return absl::OkStatus();
}

absl::StatusOr<std::string> PointMaker::Make(const PointSpec& spec, const std::string& key,
                                             const ProgressFn& progress,
                                             PointResult* result) const {
  const bool is_made_here = spec.kind == PointKind::kFactorize || spec.kind == PointKind::kEncode;
  const std::string path = is_made_here                        ? FolderOf(spec, key)
                           : spec.kind == PointKind::kBaseline ? spec.recipe
                                                               : options_.dense_path;
  if (is_made_here && IsThere(path) && !IsThere(WorkFolder::PathOf(path))) {
    auto made = options_.cache->Read(MadeKey(key));
    if (made.ok()) {
      *result = *std::move(made);
      return path;
    }
  }
  result->kind = spec.kind;
  result->recipe = spec.recipe;
  if (spec.kind == PointKind::kFactorize) {
    RK_RETURN_IF_ERROR(Factor(spec, path, progress, result));
  } else if (spec.kind == PointKind::kEncode) {
    RK_RETURN_IF_ERROR(Encode(spec, path, result));
  }
  RK_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> model, OpenCheckpoint(path));
  result->size = SizeOfModel(*model);
  if (spec.kind != PointKind::kFactorize) RK_RETURN_IF_ERROR(AddErrors(*model, progress, result));
  if (is_made_here) RK_RETURN_IF_ERROR(options_.cache->Write(MadeKey(key), *result));
  return path;
}

absl::Status PointMaker::CleanUp(const PointSpec& spec, const std::string& key,
                                 bool keep_model) const {
  const bool is_made_here = spec.kind == PointKind::kFactorize || spec.kind == PointKind::kEncode;
  if (!is_made_here || keep_model) return absl::OkStatus();
  RK_RETURN_IF_ERROR(options_.cache->Remove(MadeKey(key)));
  return RemoveFolder(FolderOf(spec, key));
}

}  // namespace rankine
