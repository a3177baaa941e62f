// Which points a design space has: the product of its axes, and points given one by one. Made as
// lines of flags, which the caller parses with the parser of `rankine factorize`, so that methods
// and flags that are new there can be explored without a change here.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/explore/point.h"

namespace rankine {

struct LayerSet {
  std::string name;
  std::string regex;  // as --only
};

// "NAME=VALUE", or a VALUE that names itself by the last part of its path. A file of that whole
// name is the value.
std::pair<std::string, std::string> SplitNamed(const std::string& text);

struct Axes {
  // Factorised points: methods x allocations x layer sets x encodings of factors x budgets.
  std::vector<std::string> methods;
  std::vector<std::string> allocations;  // empty: each method's own
  std::vector<LayerSet> layer_sets;      // empty: all linears
  std::vector<std::string> factor_encodings = {"bf16"};
  std::vector<double> keep, bits;

  std::vector<std::string> encodings;                             // plain rounding
  std::vector<std::pair<std::string, std::string>> baselines;     // name, path
  std::vector<std::pair<std::string, std::string>> named_points;  // name, flags of factorize
};

// Baselines, roundings, named points, then the product: every chain's largest budget, then every
// chain's next, so that a run that is stopped has seen a bit of all. `factorize` of the specs is
// not filled. kInvalidArgument: methods without budgets or the other way round, a budget that is
// none, a bad encoding, two points of one name.
absl::StatusOr<std::vector<PointSpec>> PlanPoints(const Axes& axes);

// The file of --points: lines "NAME --method .. --keep ..", the name being all that stands before
// the first word with "--"; blank lines and lines that begin with # are left out. Name and flags of
// each. kInvalidArgument gives the line's number.
absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ReadPointsFile(
    const std::string& path);

}  // namespace rankine
