#include "tools/compress/search/rank_losses.h"

#include <map>
#include <set>
#include <utility>

#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/linears.h"
#include "tools/eval/estimate.h"

namespace rankine {

MeasuredLoss CompareLosses(const std::vector<double>& before, const std::vector<double>& now) {
  RK_CHECK(before.size() == now.size());
  std::vector<double> differences;
  for (size_t i = 0; i < now.size(); ++i) differences.push_back(now[i] - before[i]);
  const Estimate loss = MeanOf(now), increase = MeanOf(differences);
  return {.loss = loss.value,
          .standard_error = loss.standard_error,
          .increase = increase.value,
          .increase_error = increase.standard_error};
}

absl::StatusOr<MeasuredLoss> RankLosses::Measure(const Ranks& ranks) {
  RK_ASSIGN_OR_RETURN(const std::vector<double> before, LossesOf({}));
  RK_ASSIGN_OR_RETURN(const std::vector<double> now, LossesOf(ranks));
  return CompareLosses(before, now);
}

absl::StatusOr<std::vector<double>> RankLosses::LossesOf(const Ranks& ranks) {
  if (const std::vector<double>* known = args_.points.Find(ranks)) return *known;
  RK_RETURN_IF_ERROR(Progress());
  RK_ASSIGN_OR_RETURN(std::vector<double> losses, Compute(ranks));
  RK_RETURN_IF_ERROR(args_.points.Add(ranks, losses));
  return losses;
}

absl::StatusOr<std::vector<double>> RankLosses::Compute(const Ranks& ranks) {
  const auto progress = [this](double) { return Progress(); };
  if (loss_ == nullptr) {
    RK_ASSIGN_OR_RETURN(loss_, ValidationLoss::Create(*args_.checkpoint, args_.windows,
                                                      {.threads = args_.threads}, progress));
  }
  std::map<int64_t, Ranks> by_layer;
  std::set<int64_t> changed;
  for (const auto& [name, rank] : ranks) {
    const std::optional<int64_t> layer = LayerOf(name);
    RK_CHECK(layer.has_value());
    by_layer[*layer][name] = rank;
    changed.insert(*layer);
  }
  return loss_->Evaluate(
      changed, [&](int64_t layer) { return args_.bank.Get(layer, by_layer.at(layer)); }, progress);
}

}  // namespace rankine
