#include "tools/compress/allocation/sensitivity.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// The paper's 0.1 to 0.9 in steps of 0.1 cost more than twice as much; losses between are close to
// linear.
constexpr double kMeasuredShares[] = {0.3, 0.5, 0.7, 0.9};

struct MeasuredPoint {
  int64_t rank = 0;
  double increase = 0;
};

// The largest candidate of at most `share` of the dense cost, else the first; 0 where none is
// smaller than dense.
int64_t RankAtShare(const AllocationRequest& request, const AllocationLinear& linear,
                    const std::vector<int64_t>& candidates, double share) {
  int64_t best = 0;
  for (const int64_t rank : candidates) {
    if (best != 0 && CostAtRank(request, linear, rank) > share * DenseCost(request, linear)) break;
    best = rank;
  }
  return best;
}

// One linear: what it may be, and what the measured ranks cost the model.
class Curve {
 public:
  static absl::StatusOr<Curve> Measure(const AllocationRequest& request,
                                       const AllocationLinear& linear,
                                       const std::vector<double>& shares) {
    Curve curve;
    curve.candidates_ = CandidateRanks(request, linear);
    for (const double share : shares) {
      const int64_t rank = RankAtShare(request, linear, curve.candidates_, share);
      if (rank == 0 || (!curve.points_.empty() && curve.points_.back().rank == rank)) continue;
      RK_ASSIGN_OR_RETURN(const MeasuredLoss loss, request.loss_of({{linear.name, rank}}));
      curve.points_.push_back({rank, loss.increase});
    }
    double least = 0;
    for (size_t i = curve.points_.size(); i-- > 0;) {
      least = curve.points_[i].increase = std::max(curve.points_[i].increase, least);
    }
    return curve;
  }

  // The smallest rank that costs at most `threshold`; 0 = dense.
  int64_t RankAt(double threshold) const {
    if (points_.empty() || points_.back().increase > threshold) return 0;
    size_t i = points_.size() - 1;
    while (i > 0 && points_[i - 1].increase <= threshold) --i;
    if (i == 0) return points_[0].rank;
    const MeasuredPoint &above = points_[i], &below = points_[i - 1];
    const double part = (threshold - above.increase) / (below.increase - above.increase);
    const auto rank =
        static_cast<double>(above.rank) - part * static_cast<double>(above.rank - below.rank);
    return *std::lower_bound(candidates_.begin(), candidates_.end(),
                             static_cast<int64_t>(std::ceil(rank)));
  }

  double MostIncrease() const { return points_.empty() ? 0 : points_[0].increase; }
  const std::vector<int64_t>& candidates() const { return candidates_; }

 private:
  std::vector<int64_t> candidates_;
  std::vector<MeasuredPoint> points_;  // by rising rank, with increases that do not rise
};

class SensitivityChooser {
 public:
  SensitivityChooser(const AllocationRequest& request, std::vector<Curve> curves)
      : request_(request), curves_(std::move(curves)) {}

  std::vector<int64_t> RanksAt(double threshold) const {
    std::vector<int64_t> ranks;
    for (const Curve& c : curves_) ranks.push_back(c.RankAt(threshold));
    return ranks;
  }

  double CostOf(const std::vector<int64_t>& ranks) const {
    double cost = 0;
    for (size_t i = 0; i < ranks.size(); ++i) cost += CostOf(i, ranks[i]);
    return cost;
  }

  double HighestThreshold() const {
    double most = 0;
    for (const Curve& c : curves_) most = std::max(most, c.MostIncrease());
    return most;
  }

  // Raises ranks up to those in `limit`, the most sensitive linears first, while the budget holds.
  void SpendTheRest(const std::vector<int64_t>& limit, std::vector<int64_t>* ranks) const {
    double left = TotalBudget(request_) - CostOf(*ranks);
    std::vector<size_t> order(curves_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return curves_[a].MostIncrease() > curves_[b].MostIncrease();
    });
    for (const size_t i : order) {
      const int64_t now = (*ranks)[i];
      if (now == 0 || now == limit[i]) continue;
      std::vector<int64_t> choices = curves_[i].candidates();
      if (limit[i] == 0) choices.push_back(0);
      for (size_t k = choices.size(); k-- > 0 && choices[k] != now;) {
        if (limit[i] != 0 && choices[k] > limit[i]) continue;
        const double more = CostOf(i, choices[k]) - CostOf(i, now);
        if (more > left) continue;
        left -= more;
        (*ranks)[i] = choices[k];
        break;
      }
    }
  }

 private:
  double CostOf(size_t i, int64_t rank) const {
    const AllocationLinear& l = request_.linears[i];
    return rank == 0 ? DenseCost(request_, l) : CostAtRank(request_, l, rank);
  }

  const AllocationRequest& request_;
  std::vector<Curve> curves_;
};

absl::StatusOr<std::vector<int64_t>> Choose(const AllocationRequest& request,
                                            const SensitivityChooser& chooser) {
  const double budget = TotalBudget(request);
  // Every linear dense; every linear at its smallest measured rank.
  double low = -1, high = chooser.HighestThreshold();
  if (chooser.CostOf(chooser.RanksAt(low)) <= budget) return chooser.RanksAt(low);
  const double least = chooser.CostOf(chooser.RanksAt(high));
  if (least > budget) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the budget of ", budget, request.bits > 0 ? " bits" : " numbers", " is below ", least,
        ", what the smallest measured share leaves of every linear: add smaller ones by "
        "--search-shares"));
  }
  for (int i = 0; i < kBisections; ++i) {
    const double middle = (low + high) / 2;
    chooser.CostOf(chooser.RanksAt(middle)) <= budget ? high = middle : low = middle;
  }
  std::vector<int64_t> ranks = chooser.RanksAt(high);
  chooser.SpendTheRest(chooser.RanksAt(low), &ranks);
  return ranks;
}

}  // namespace

absl::StatusOr<Allocation> AllocateBySensitivity(const AllocationRequest& request) {
  RK_ASSIGN_OR_RETURN(const std::vector<double> shares, SharesOr(request.search, kMeasuredShares));
  std::vector<Curve> curves;
  for (const AllocationLinear& l : request.linears) {
    RK_ASSIGN_OR_RETURN(Curve curve, Curve::Measure(request, l, shares));
    curves.push_back(std::move(curve));
  }
  RK_ASSIGN_OR_RETURN(const std::vector<int64_t> ranks,
                      Choose(request, SensitivityChooser(request, std::move(curves))));
  Allocation allocation;
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (ranks[i] > 0) allocation[request.linears[i].name] = {.rank = ranks[i]};
  }
  return allocation;
}

}  // namespace rankine
