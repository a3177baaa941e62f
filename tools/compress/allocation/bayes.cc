#include "tools/compress/allocation/bayes.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"
#include "tools/compress/linears.h"
#include "tools/compress/search/bayes_optimizer.h"

namespace rankine {
namespace {

// Weights are kWidest^(2 x - 1), x in [0, 1]: at a budget of 0.8 a group can fall to below 0.3 or
// stay dense, and at 0.2 to 0.8.
constexpr double kWidest = 4;
// The scale of all shares: up to where the least weight keeps everything.
constexpr double kLargestScale = 2 * kWidest;

class Space {
 public:
  explicit Space(const AllocationRequest& request) : request_(request) {
    std::set<int64_t> layers;
    for (const AllocationLinear& l : request.linears) layers.insert(LayerOf(l.name).value_or(0));
    const std::vector<int64_t> depth(layers.begin(), layers.end());
    std::map<std::pair<std::string, int64_t>, size_t> groups;
    for (const AllocationLinear& l : request.linears) {
      const auto at = std::lower_bound(depth.begin(), depth.end(), LayerOf(l.name).value_or(0));
      const auto count = static_cast<int64_t>(depth.size());
      const int64_t bands = std::min(request.search.depth_bands, count);
      const std::string type = l.name.substr(l.name.rfind('.') + 1);
      const std::pair key{type, (at - depth.begin()) * bands / count};
      group_.push_back(groups.try_emplace(key, groups.size()).first->second);
      candidates_.push_back(CandidateRanks(request, l));
    }
    dims_ = static_cast<int64_t>(groups.size());
  }

  int64_t dims() const { return dims_; }

  // Ranks (0 = dense) of a point, the largest that the budget holds.
  std::vector<int64_t> RanksOf(const std::vector<double>& point) const {
    double low = 0, high = kLargestScale;
    if (CostOf(RanksAt(point, high)) <= TotalBudget(request_)) return RanksAt(point, high);
    for (int i = 0; i < kBisections; ++i) {
      const double middle = (low + high) / 2;
      CostOf(RanksAt(point, middle)) <= TotalBudget(request_) ? low = middle : high = middle;
    }
    return RanksAt(point, low);
  }

  double CostOf(const std::vector<int64_t>& ranks) const {
    double cost = 0;
    for (size_t i = 0; i < ranks.size(); ++i) {
      const AllocationLinear& l = request_.linears[i];
      cost += ranks[i] == 0 ? DenseCost(request_, l) : CostAtRank(request_, l, ranks[i]);
    }
    return cost;
  }

  Ranks Named(const std::vector<int64_t>& ranks) const {
    Ranks named;
    for (size_t i = 0; i < ranks.size(); ++i) {
      if (ranks[i] > 0) named[request_.linears[i].name] = ranks[i];
    }
    return named;
  }

 private:
  std::vector<int64_t> RanksAt(const std::vector<double>& point, double scale) const {
    std::vector<int64_t> ranks;
    for (size_t i = 0; i < group_.size(); ++i) {
      const double keep = scale * std::pow(kWidest, 2 * point[group_[i]] - 1);
      ranks.push_back(keep >= 1 ? 0 : RankFor(i, keep));
    }
    return ranks;
  }

  int64_t RankFor(size_t i, double keep) const {
    const AllocationLinear& l = request_.linears[i];
    int64_t best = 0;
    for (const int64_t rank : candidates_[i]) {
      if (best != 0 && CostAtRank(request_, l, rank) > keep * DenseCost(request_, l)) break;
      best = rank;
    }
    return best;
  }

  const AllocationRequest& request_;
  std::vector<size_t> group_;  // of each linear
  std::vector<std::vector<int64_t>> candidates_;
  int64_t dims_ = 0;
};

}  // namespace

absl::StatusOr<Allocation> AllocateByBayes(const AllocationRequest& request) {
  const SearchSettings& settings = request.search;
  if (settings.evaluations < 1 || settings.depth_bands < 1) {
    return absl::InvalidArgumentError("bayes needs at least one evaluation and one depth band");
  }
  const Space space(request);
  const double least =
      space.CostOf(space.RanksOf(std::vector<double>(static_cast<size_t>(space.dims()), 0.5)));
  if (least > TotalBudget(request)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the budget is below ", least, ", the smallest rank in every linear"));
  }
  // A third of the evaluations, two for each dimension at most, spread before the model decides.
  const int64_t initial = std::min(2 * space.dims(), settings.evaluations / 3);
  const BayesOptimizer optimizer(
      {.dims = space.dims(), .seed = settings.seed, .initial = std::max<int64_t>(initial, 1)});
  std::vector<Evaluation> done;
  Ranks best;
  double best_loss = 0;
  for (int64_t i = 0; i < settings.evaluations; ++i) {
    RK_ASSIGN_OR_RETURN(std::vector<double> point, optimizer.Propose(done));
    Ranks ranks = space.Named(space.RanksOf(point));
    RK_ASSIGN_OR_RETURN(const MeasuredLoss loss, request.loss_of(ranks));
    if (i == 0 || loss.loss < best_loss) {
      best = std::move(ranks);
      best_loss = loss.loss;
    }
    done.push_back({std::move(point), loss.loss});
  }
  Allocation allocation;
  for (const auto& [name, rank] : best) allocation[name] = {.rank = rank};
  return allocation;
}

}  // namespace rankine
