#include "tools/compress/allocation/list.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "models/name_pattern.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

struct Rule {
  int line = 0;
  std::string text;
  std::optional<NamePattern> pattern;
  double keep = 0;   // share of parameters
  int64_t rank = 0;  // neither: dense
  bool used = false;
};

absl::StatusOr<Rule> ParseRule(const std::string& line, int number, const std::string& path) {
  std::istringstream words(line);
  Rule rule{.line = number};
  std::string form, value, rest;
  words >> rule.text >> form >> value >> rest;
  const auto error = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(path, ", line ", number, ": ", what));
  };
  const absl::StatusOr<NamePattern> pattern = NamePattern::Compile(rule.text);
  if (!pattern.ok()) return error(std::string(pattern.status().message()));
  rule.pattern = *pattern;
  const bool is_dense = form == "dense" && value.empty();
  const bool is_keep = form == "keep" && absl::SimpleAtod(value, &rule.keep) && rule.keep > 0 &&
                       rule.keep <= 1 && rest.empty();
  const bool is_rank =
      form == "rank" && absl::SimpleAtoi(value, &rule.rank) && rule.rank >= 1 && rest.empty();
  if (is_dense || is_keep || is_rank) return rule;
  return error("a rule is REGEX and one of: keep SHARE (above 0, at most 1), rank R, dense");
}

absl::StatusOr<std::vector<Rule>> ReadRules(const std::string& path) {
  if (path.empty()) {
    return absl::InvalidArgumentError("allocation list needs its file: --allocation-list FILE");
  }
  std::ifstream in(path);
  if (!in) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  std::vector<Rule> rules;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    const size_t first = line.find_first_not_of(" \t\r");
    if (first == std::string::npos || line[first] == '#') continue;
    RK_ASSIGN_OR_RETURN(Rule rule, ParseRule(line, number, path));
    rules.push_back(std::move(rule));
  }
  return rules;
}

}  // namespace

absl::StatusOr<Allocation> AllocateByList(const AllocationRequest& request) {
  RK_ASSIGN_OR_RETURN(std::vector<Rule> rules, ReadRules(request.list_path));
  Allocation allocation;
  for (const AllocationLinear& l : request.linears) {
    const auto rule = std::find_if(rules.begin(), rules.end(),
                                   [&](const Rule& r) { return r.pattern->IsIn(l.name); });
    if (rule == rules.end()) continue;
    rule->used = true;
    if (rule->rank == 0 && rule->keep == 0) continue;
    allocation[l.name] = {.rank = rule->rank,
                          .parameters = rule->keep * static_cast<double>(l.parameters()),
                          .rank_multiple = request.rank_multiple};
  }
  for (const Rule& r : rules) {
    if (r.used) continue;
    return absl::InvalidArgumentError(absl::StrCat(request.list_path, ", line ", r.line, ": '",
                                                   r.text,
                                                   "' fits no selected linear that is not "
                                                   "taken by a rule before it"));
  }
  return allocation;
}

}  // namespace rankine
