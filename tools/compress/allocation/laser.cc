#include "tools/compress/allocation/laser.h"

#include <algorithm>
#include <utility>

#include "models/status_macros.h"

namespace rankine {
namespace {

// As in the paper, which removes 10% to 99% of the rank.
constexpr double kTriedShares[] = {0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9};

struct Intervention {
  std::string linear;
  int64_t rank = 0;
  double increase = 0;
};

// Every linear alone at every share; the most helpful first.
absl::StatusOr<std::vector<Intervention>> MeasureAll(const AllocationRequest& request,
                                                     const std::vector<double>& shares) {
  std::vector<Intervention> all;
  for (const AllocationLinear& l : request.linears) {
    const auto most = static_cast<double>(std::min(l.out_features, l.in_features));
    int64_t last = 0;
    for (const double share : shares) {
      const int64_t rank = std::max<int64_t>(1, static_cast<int64_t>(share * most));
      if (std::exchange(last, rank) == rank) continue;
      RK_ASSIGN_OR_RETURN(const MeasuredLoss loss, request.loss_of({{l.name, rank}}));
      all.push_back({l.name, rank, loss.increase});
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const Intervention& a, const Intervention& b) {
    return a.increase < b.increase;
  });
  return all;
}

}  // namespace

absl::StatusOr<Allocation> AllocateByLaser(const AllocationRequest& request) {
  if (request.search.interventions < 1) {
    return absl::InvalidArgumentError("laser needs at least one intervention");
  }
  RK_ASSIGN_OR_RETURN(const std::vector<double> shares, SharesOr(request.search, kTriedShares));
  RK_ASSIGN_OR_RETURN(const std::vector<Intervention> all, MeasureAll(request, shares));
  Ranks taken;
  double increase = 0;
  for (const Intervention& next : all) {
    if (next.increase >= 0) break;
    if (static_cast<int64_t>(taken.size()) == request.search.interventions) break;
    if (taken.count(next.linear) != 0) continue;
    Ranks tried = taken;
    tried[next.linear] = next.rank;
    RK_ASSIGN_OR_RETURN(const MeasuredLoss loss, request.loss_of(tried));
    if (loss.increase >= increase) continue;
    taken = std::move(tried);
    increase = loss.increase;
  }
  Allocation allocation;
  for (const auto& [name, rank] : taken) allocation[name] = {.rank = rank};
  return allocation;
}

}  // namespace rankine
