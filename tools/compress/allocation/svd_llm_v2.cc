#include "tools/compress/allocation/svd_llm_v2.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace rankine {
namespace {

// Losses are sums over all tokens and well above 1 in practice; the floor keeps 1 / log finite and
// the order of linears.
constexpr double kLeastLog = 1;

std::string TypeOf(const std::string& name) { return name.substr(name.rfind('.') + 1); }

// The largest candidate that costs at most `cost`, at least the first; 0 where no rank is smaller
// than dense.
int64_t RankFor(const AllocationRequest& request, const AllocationLinear& linear, double cost) {
  int64_t best = 0;
  for (const int64_t rank : CandidateRanks(request, linear)) {
    if (best != 0 && CostAtRank(request, linear, rank) > cost) break;
    best = rank;
  }
  return best;
}

class Shares {
 public:
  explicit Shares(const AllocationRequest& request) : request_(request) {
    double dense = 0;
    for (const AllocationLinear& l : request.linears) dense += DenseCost(request, l);
    removed_ = 1 - TotalBudget(request) / dense;
    std::map<std::string, std::vector<size_t>> types;
    for (size_t i = 0; i < request.linears.size(); ++i) {
      types[TypeOf(request.linears[i].name)].push_back(i);
    }
    share_.resize(request.linears.size());
    for (const auto& [type, members] : types) SetType(members);
  }

  // Ranks when every linear keeps its share times `scale`; 0 = dense.
  std::vector<int64_t> RanksAt(double scale) const {
    std::vector<int64_t> ranks;
    for (size_t i = 0; i < share_.size(); ++i) {
      const AllocationLinear& l = request_.linears[i];
      const double keep = scale * (1 - share_[i]);
      ranks.push_back(keep >= 1 ? 0 : RankFor(request_, l, keep * DenseCost(request_, l)));
    }
    return ranks;
  }

  double CostOf(const std::vector<int64_t>& ranks) const {
    double cost = 0;
    for (size_t i = 0; i < ranks.size(); ++i) {
      const AllocationLinear& l = request_.linears[i];
      cost += ranks[i] == 0 ? DenseCost(request_, l) : CostAtRank(request_, l, ranks[i]);
    }
    return cost;
  }

 private:
  // Len(type) x removed x (1 / log loss) / sum of them.
  void SetType(const std::vector<size_t>& members) {
    double total = 0;
    for (size_t i : members) total += share_[i] = 1 / std::max(std::log(LossOf(i)), kLeastLog);
    for (size_t i : members) {
      share_[i] =
          std::clamp(static_cast<double>(members.size()) * removed_ * share_[i] / total, 0.0, 1.0);
    }
  }

  double LossOf(size_t i) const {
    const AllocationLinear& l = request_.linears[i];
    const int64_t rank = RankFor(request_, l, (1 - removed_) * DenseCost(request_, l));
    const auto begin =
        l.losses.begin() + std::min<int64_t>(rank, static_cast<int64_t>(l.losses.size()));
    const double squared = std::accumulate(begin, l.losses.end(), 0.0);
    return std::sqrt(squared * static_cast<double>(std::max<int64_t>(request_.tokens, 1)));
  }

  const AllocationRequest& request_;
  double removed_ = 0;
  std::vector<double> share_;  // removed
};

}  // namespace

absl::StatusOr<Allocation> AllocateSvdLlmV2(const AllocationRequest& request) {
  const Shares shares(request);
  const double budget = TotalBudget(request);
  const double least = shares.CostOf(shares.RanksAt(0));
  if (least > budget) {
    return absl::InvalidArgumentError(
        absl::StrCat("the budget is below ", least, ", the smallest rank in every linear"));
  }
  // Keeping all shares as they are, or as near to it as the budget allows.
  double low = 0, high = 1;
  if (shares.CostOf(shares.RanksAt(1)) > budget) {
    for (int i = 0; i < kBisections; ++i) {
      const double middle = (low + high) / 2;
      shares.CostOf(shares.RanksAt(middle)) <= budget ? low = middle : high = middle;
    }
  } else {
    low = 1;
  }
  const std::vector<int64_t> ranks = shares.RanksAt(low);
  Allocation allocation;
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (ranks[i] > 0) allocation[request.linears[i].name] = {.rank = ranks[i]};
  }
  return allocation;
}

}  // namespace rankine
