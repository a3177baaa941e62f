#include "tools/explore/plan.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "models/checkpoint/encoding_map.h"
#include "models/files/text_file.h"
#include "models/status_macros.h"
#include "tools/explore/words.h"

namespace rankine {
namespace {

std::string Number(double value) { return absl::StrFormat("%.6g", value); }

absl::Status CheckBudgets(const Axes& axes) {
  if (axes.methods.empty() != (axes.keep.empty() && axes.bits.empty())) {
    return absl::InvalidArgumentError(
        axes.methods.empty() ? "--keep and --bits are budgets of --methods: give methods"
                             : "--methods needs budgets: give --keep 0.9,0.8 or --bits 4.5,3.5");
  }
  for (const double keep : axes.keep) {
    if (!(keep > 0 && keep <= 1)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--keep ", Number(keep), " is outside (0, 1]: it is the share of parameters kept"));
    }
  }
  for (const double bits : axes.bits) {
    if (!(bits > 0) || !std::isfinite(bits)) {
      return absl::InvalidArgumentError(absl::StrCat("--bits ", Number(bits), " must be above 0"));
    }
  }
  return absl::OkStatus();
}

// Budgets of one kind, the largest first and each once.
std::vector<double> Falling(std::vector<double> budgets) {
  std::sort(budgets.begin(), budgets.end(), std::greater<>());
  budgets.erase(std::unique(budgets.begin(), budgets.end()), budgets.end());
  return budgets;
}

class Planner {
 public:
  explicit Planner(const Axes& axes) : axes_(axes) {}

  absl::StatusOr<std::vector<PointSpec>> Run() {
    RK_RETURN_IF_ERROR(CheckBudgets(axes_));
    for (const auto& [name, path] : axes_.baselines) {
      points_.push_back(
          {.kind = PointKind::kBaseline, .name = name, .recipe = path, .family = "as it is"});
    }
    for (const std::string& encoding : axes_.encodings) {
      auto target = ParseEncodingTarget(encoding);
      if (!target.ok()) {
        return absl::Status(target.status().code(),
                            absl::StrCat("--encodings: ", target.status().message()));
      }
      points_.push_back(
          {.kind = PointKind::kEncode, .name = encoding, .recipe = encoding, .family = "rounding"});
    }
    for (const auto& [name, flags] : axes_.named_points) {
      points_.push_back({.kind = PointKind::kFactorize, .name = name, .recipe = flags});
    }
    AddProduct("keep", Falling(axes_.keep));
    AddProduct("bits", Falling(axes_.bits));
    RK_RETURN_IF_ERROR(CheckNames());
    return std::move(points_);
  }

 private:
  void AddProduct(const std::string& budget_flag, const std::vector<double>& budgets) {
    const std::vector<LayerSet> sets =
        axes_.layer_sets.empty() ? std::vector<LayerSet>{{}} : axes_.layer_sets;
    const std::vector<std::string> allocations =
        axes_.allocations.empty() ? std::vector<std::string>{""} : axes_.allocations;
    for (const double budget : budgets) {
      for (const std::string& method : axes_.methods) {
        for (const std::string& allocation : allocations) {
          for (const LayerSet& set : sets) {
            for (const std::string& encoding : axes_.factor_encodings) {
              Add(budget_flag, budget, method, allocation, set, encoding);
            }
          }
        }
      }
    }
  }

  void Add(const std::string& budget_flag, double budget, const std::string& method,
           const std::string& allocation, const LayerSet& set, const std::string& encoding) {
    std::vector<std::string> words = {"--method", method};
    std::string name = method;
    if (!allocation.empty()) {
      words.insert(words.end(), {"--allocation", allocation});
      absl::StrAppend(&name, " ", allocation);
    }
    if (!set.regex.empty()) {
      words.insert(words.end(), {"--only", set.regex});
      absl::StrAppend(&name, " ", set.name);
    }
    if (encoding != "bf16") {
      words.insert(words.end(), {"--factor-encode", encoding});
      absl::StrAppend(&name, " ", encoding);
    }
    const std::string chain = absl::StrCat(budget_flag, " ", JoinWords(words));
    words.insert(words.end(), {"--" + budget_flag, Number(budget)});
    absl::StrAppend(&name, " ", Number(budget), budget_flag == "bits" ? " bits" : "");
    points_.push_back({.kind = PointKind::kFactorize,
                       .name = name,
                       .recipe = JoinWords(words),
                       .chain = chain,
                       .budget = budget});
  }

  absl::Status CheckNames() const {
    std::set<std::string> names = {"dense"};
    for (const PointSpec& p : points_) {
      if (names.insert(p.name).second) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("two points are called '", p.name, "': each needs a name of its own"));
    }
    return absl::OkStatus();
  }

  const Axes& axes_;
  std::vector<PointSpec> points_;
};

}  // namespace

std::pair<std::string, std::string> SplitNamed(const std::string& text) {
  std::error_code ignored;
  const size_t equals = text.find('=');
  if (equals != std::string::npos && equals > 0 && !std::filesystem::exists(text, ignored)) {
    return {text.substr(0, equals), text.substr(equals + 1)};
  }
  std::filesystem::path path(text);
  if (!path.has_filename()) path = path.parent_path();  // "folder/"
  return {path.filename().string(), text};
}

absl::StatusOr<std::vector<PointSpec>> PlanPoints(const Axes& axes) { return Planner(axes).Run(); }

absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ReadPointsFile(
    const std::string& path) {
  RK_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  std::vector<std::pair<std::string, std::string>> points;
  int number = 0;
  for (const absl::string_view raw : absl::StrSplit(text, '\n')) {
    ++number;
    const std::string line(absl::StripAsciiWhitespace(raw));
    if (line.empty() || line[0] == '#') continue;
    // The space keeps a name from ending in the middle of a word with two hyphens.
    const size_t flags = absl::StartsWith(line, "--") ? 0 : line.find(" --");
    if (flags == 0 || flags == std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", number, ": '", line,
                       "' should be a name and then flags of factorize, as: best --method svd-llm "
                       "--keep 0.8"));
    }
    points.emplace_back(absl::StripTrailingAsciiWhitespace(line.substr(0, flags)),
                        absl::StripAsciiWhitespace(line.substr(flags)));
  }
  if (points.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, " names no point"));
  }
  return points;
}

}  // namespace rankine
