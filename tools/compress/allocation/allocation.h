// How a budget is shared between linears: the policies, and the table of them. A policy says a rank
// (or none: dense) for each linear, and never exceeds the budget.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tools/compress/methods/budget.h"
#include "tools/compress/search/model_loss.h"

namespace rankine {

struct AllocationLinear {
  std::string name;  // "model.layers.3.mlp.up_proj"
  int64_t out_features = 0;
  int64_t in_features = 0;
  int64_t dense_bits = 0;  // when it stays as it is
  int64_t extra = 0;       // numbers in f32 that any rank has beside the factors: a new bias
  // Squared absolute loss of dropping each slice, in falling order (Method::slice_losses); empty
  // for policies that do not ask.
  std::vector<double> losses;

  int64_t parameters() const { return out_features * in_features; }
};

struct AllocationRequest {
  std::vector<AllocationLinear> linears;
  // Of all linears together; exactly one is above 0.
  double parameters = 0;
  double bits = 0;
  Encoding encoding;  // of the factors
  int64_t rank_multiple = 1;
  int64_t tokens = 0;     // that the losses are means over
  std::string list_path;  // of `list`
  // Of policies that look at the model's loss.
  LossOfRanks loss_of;
  SearchSettings search;
};

// Budgets by name; a linear without one stays dense.
using Allocation = std::map<std::string, Budget>;

struct AllocationPolicy {
  std::string_view name;  // as on the command line
  std::string_view help;
  bool needs_losses = false;
  bool needs_model_loss = false;  // calls AllocationRequest::loss_of
  bool has_budget = true;         // else it decides how much is kept, whatever the request says
  absl::StatusOr<Allocation> (*allocate)(const AllocationRequest& request) = nullptr;
};

absl::Span<const AllocationPolicy> AllocationPolicies();
// kInvalidArgument lists the known names.
absl::StatusOr<const AllocationPolicy*> FindAllocationPolicy(std::string_view name);

// The same share for every linear.
absl::StatusOr<Allocation> AllocateUniform(const AllocationRequest& request);

// Halvings of an interval of doubles, until it cannot shrink.
inline constexpr int kBisections = 100;

// What a linear costs at each rank it may have, in the unit of the request's budget.
double CostAtRank(const AllocationRequest& request, const AllocationLinear& linear, int64_t rank);
double DenseCost(const AllocationRequest& request, const AllocationLinear& linear);
// The budget, in the same unit.
double TotalBudget(const AllocationRequest& request);
// Ranks that are smaller than the dense form, rising: multiples of rank_multiple, and those below
// the first. Empty when no rank is smaller.
std::vector<int64_t> CandidateRanks(const AllocationRequest& request,
                                    const AllocationLinear& linear);

}  // namespace rankine
