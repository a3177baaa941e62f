#include "tools/compress/allocation/allocation.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "tools/compress/allocation/bayes.h"
#include "tools/compress/allocation/laser.h"
#include "tools/compress/allocation/list.h"
#include "tools/compress/allocation/loss_greedy.h"
#include "tools/compress/allocation/sensitivity.h"
#include "tools/compress/allocation/svd_llm_v2.h"

namespace rankine {
namespace {

constexpr std::array kPolicies = {
    AllocationPolicy{
        .name = "uniform", .help = "the same share for every linear", .allocate = &AllocateUniform},
    AllocationPolicy{
        .name = "loss-greedy",
        .help = "the slices that lose least for what they cost go first, across layers",
        .needs_losses = true,
        .allocate = &AllocateLossGreedy},
    AllocationPolicy{.name = "svd-llm-v2",
                     .help = "within a matrix type, a share removed as 1 / log(loss)",
                     .needs_losses = true,
                     .allocate = &AllocateSvdLlmV2},
    AllocationPolicy{.name = "sensitivity",
                     .help = "one threshold of the loss that a linear costs alone, as ASVD has it",
                     .needs_model_loss = true,
                     .allocate = &AllocateBySensitivity},
    AllocationPolicy{.name = "bayes",
                     .help = "Bayesian optimisation of the model's loss, as Bolaco has it",
                     .needs_model_loss = true,
                     .allocate = &AllocateByBayes},
    AllocationPolicy{.name = "laser",
                     .help = "the reductions that lower the model's loss; others stay dense",
                     .needs_model_loss = true,
                     .has_budget = false,
                     .allocate = &AllocateByLaser},
    AllocationPolicy{.name = "list",
                     .help = "what --allocation-list FILE says",
                     .has_budget = false,
                     .allocate = &AllocateByList},
};

}  // namespace

absl::Span<const AllocationPolicy> AllocationPolicies() { return kPolicies; }

absl::StatusOr<const AllocationPolicy*> FindAllocationPolicy(std::string_view name) {
  std::string known;
  for (const AllocationPolicy& p : kPolicies) {
    if (p.name == name) return &p;
    absl::StrAppend(&known, known.empty() ? "" : ", ", std::string(p.name));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("allocation '", std::string(name), "' is not known; known: ", known));
}

double TotalBudget(const AllocationRequest& request) {
  return request.bits > 0 ? request.bits : request.parameters;
}

double CostAtRank(const AllocationRequest& request, const AllocationLinear& linear, int64_t rank) {
  const int64_t cost =
      request.bits > 0
          ? FactorBits(rank, linear.out_features, linear.in_features, request.encoding) +
                32 * linear.extra
          : rank * (linear.out_features + linear.in_features) + linear.extra;
  return static_cast<double>(cost);
}

double DenseCost(const AllocationRequest& request, const AllocationLinear& linear) {
  return static_cast<double>(request.bits > 0 ? linear.dense_bits : linear.parameters());
}

std::vector<int64_t> CandidateRanks(const AllocationRequest& request,
                                    const AllocationLinear& linear) {
  const double dense = DenseCost(request, linear);
  std::vector<int64_t> ranks;
  for (int64_t r = 1; r <= std::min(linear.out_features, linear.in_features); ++r) {
    if (CostAtRank(request, linear, r) >= dense) break;
    if (r < request.rank_multiple || r % request.rank_multiple == 0) ranks.push_back(r);
  }
  return ranks;
}

absl::StatusOr<Allocation> AllocateUniform(const AllocationRequest& request) {
  int64_t parameters = 0;
  for (const AllocationLinear& l : request.linears) parameters += l.parameters();
  const double share = TotalBudget(request) / static_cast<double>(parameters);
  Allocation allocation;
  for (const AllocationLinear& l : request.linears) {
    const double own = share * static_cast<double>(l.parameters());
    Budget& budget = allocation[l.name];
    budget.rank_multiple = request.rank_multiple;
    (request.bits > 0 ? budget.bits : budget.parameters) = own;
  }
  return allocation;
}

}  // namespace rankine
