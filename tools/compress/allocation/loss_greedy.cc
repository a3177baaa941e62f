#include "tools/compress/allocation/loss_greedy.h"

#include <algorithm>
#include <cmath>
#include <queue>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"

namespace rankine {
namespace {

constexpr double kLargestLog = 200;

struct CurvePoint {
  int64_t rank = 0;  // 0 = dense
  double cost = 0;
  double loss = 0;
};

// Of one linear: by rising cost, with falling loss.
std::vector<CurvePoint> CurveOf(const AllocationRequest& request, const AllocationLinear& linear) {
  std::vector<double> tail(linear.losses.size() + 1);
  for (size_t k = linear.losses.size(); k-- > 0;) tail[k] = tail[k + 1] + linear.losses[k];
  std::vector<CurvePoint> curve;
  for (const int64_t rank : CandidateRanks(request, linear)) {
    const size_t kept = std::min<size_t>(static_cast<size_t>(rank), linear.losses.size());
    curve.push_back({rank, CostAtRank(request, linear, rank), tail[kept]});
  }
  curve.push_back({0, DenseCost(request, linear), 0});
  return curve;
}

class GreedyChooser {
 public:
  explicit GreedyChooser(const AllocationRequest& request) : budget_(TotalBudget(request)) {
    for (const AllocationLinear& l : request.linears) curves_.push_back(CurveOf(request, l));
    chosen_.resize(curves_.size());
  }

  // The smallest point everywhere.
  double LeastCost() const {
    double cost = 0;
    for (const auto& curve : curves_) cost += curve[0].cost;
    return cost;
  }

  void Choose() {
    double low = -kLargestLog, high = kLargestLog;  // of log2 lambda; `high` is within the budget
    for (int i = 0; i < kBisections; ++i) {
      const double middle = (low + high) / 2;
      SetTo(std::exp2(middle)) <= budget_ ? high = middle : low = middle;
    }
    if (SetTo(std::exp2(high)) > budget_) std::fill(chosen_.begin(), chosen_.end(), 0);
    SpendTheRest();
  }

  const CurvePoint& point(size_t linear) const { return curves_[linear][chosen_[linear]]; }

 private:
  // Each linear's point of least loss + lambda cost; the cost of all.
  double SetTo(double lambda) {
    double total = 0;
    for (size_t i = 0; i < curves_.size(); ++i) {
      const std::vector<CurvePoint>& curve = curves_[i];
      size_t best = 0;
      for (size_t k = 1; k < curve.size(); ++k) {
        if (curve[k].loss + lambda * curve[k].cost < curve[best].loss + lambda * curve[best].cost) {
          best = k;
        }
      }
      chosen_[i] = best;
      total += curve[best].cost;
    }
    return total;
  }

  // Steps to the next point, the best gain for its cost first, while they fit.
  void SpendTheRest() {
    double left = budget_;
    for (size_t i = 0; i < curves_.size(); ++i) left -= point(i).cost;
    std::priority_queue<std::pair<double, size_t>> steps;
    const auto offer = [&](size_t i) {
      if (chosen_[i] + 1 == curves_[i].size()) return;
      const CurvePoint& now = point(i);
      const CurvePoint& next = curves_[i][chosen_[i] + 1];
      steps.push({(now.loss - next.loss) / std::max(next.cost - now.cost, 1.0), i});
    };
    for (size_t i = 0; i < curves_.size(); ++i) offer(i);
    while (!steps.empty()) {
      const size_t i = steps.top().second;
      steps.pop();
      const double cost = curves_[i][chosen_[i] + 1].cost - point(i).cost;
      if (cost > left) continue;
      left -= cost;
      ++chosen_[i];
      offer(i);
    }
  }

  double budget_;
  std::vector<std::vector<CurvePoint>> curves_;
  std::vector<size_t> chosen_;
};

}  // namespace

absl::StatusOr<Allocation> AllocateLossGreedy(const AllocationRequest& request) {
  GreedyChooser chooser(request);
  if (chooser.LeastCost() > TotalBudget(request)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the budget of ", TotalBudget(request), request.bits > 0 ? " bits" : " numbers",
        " is below ", chooser.LeastCost(), ", the smallest rank in every linear"));
  }
  chooser.Choose();
  Allocation allocation;
  for (size_t i = 0; i < request.linears.size(); ++i) {
    const int64_t rank = chooser.point(i).rank;
    if (rank > 0) allocation[request.linears[i].name] = {.rank = rank};
  }
  return allocation;
}

}  // namespace rankine
