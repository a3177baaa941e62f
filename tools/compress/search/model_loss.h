// What an allocation costs in the model's own loss, for policies that look at it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace rankine {

// Linears that are replaced, by name, and the rank of each; all others stay as they are.
using Ranks = std::map<std::string, int64_t>;

// On a validation text, in nats per token.
struct MeasuredLoss {
  double loss = 0;
  std::optional<double> standard_error;  // from the windows' means; absent with one window
  double increase = 0;                   // over the model as it is
  std::optional<double> increase_error;  // of the windows' paired differences
};

using LossOfRanks = std::function<absl::StatusOr<MeasuredLoss>(const Ranks& ranks)>;

// How much a policy may look.
struct SearchSettings {
  // Of `sensitivity`: shares of a linear's cost at which it is measured; of `laser`: shares of its
  // rank. In (0, 1); empty = the policy's own.
  std::vector<double> shares;
  int64_t evaluations = 40;   // of `bayes`
  int64_t depth_bands = 1;    // of `bayes`: parts of the depth that have ranks of their own
  uint64_t seed = 0;          // of `bayes`
  int64_t interventions = 1;  // of `laser`: linears that are reduced together, at most
};

// Everything that decides what a policy does, as text.
std::string Describe(const SearchSettings& settings);

// The shares asked for, rising and each once, or the policy's own. kInvalidArgument: outside (0,
// 1).
absl::StatusOr<std::vector<double>> SharesOr(const SearchSettings& settings,
                                             absl::Span<const double> own);

}  // namespace rankine
