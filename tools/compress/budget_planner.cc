#include "tools/compress/budget_planner.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"
#include "tools/compress/budget_plan.h"
#include "tools/compress/search/model_search.h"
#include "tools/compress/slice_losses.h"

namespace rankine {
namespace {

class Planner {
 public:
  explicit Planner(const PlannerArgs& args) : args_(args) {}

  absl::StatusOr<BudgetPlan> Run() {
    BudgetPlan plan;
    RK_ASSIGN_OR_RETURN(const AllocationPolicy* policy,
                        FindAllocationPolicy(args_.options->allocation));
    if (!policy->needs_model_loss) {
      RK_ASSIGN_OR_RETURN(plan.budgets, Allocate({}));
      return plan;
    }
    RK_ASSIGN_OR_RETURN(const std::unique_ptr<RankLosses> search, StartModelSearch(SearchArgs()));
    RK_ASSIGN_OR_RETURN(plan.budgets,
                        Allocate([&](const Ranks& ranks) { return search->Measure(ranks); }));
    RK_ASSIGN_OR_RETURN(plan.search, ReportOfSearch(plan.budgets, *args_.linears, search.get()));
    return plan;
  }

 private:
  using Linears = std::vector<const LinearInfo*>;

  absl::StatusOr<Allocation> Allocate(const LossOfRanks& loss_of) {
    const auto losses = [this](int64_t layer, const Linears& linears) {
      return SliceLosses(layer, linears);
    };
    return PlanBudgets(*args_.options, *args_.job, *args_.linears, losses, loss_of);
  }

  absl::StatusOr<std::optional<LayerStatistics>> Statistics(int64_t layer,
                                                            const std::string& what) {
    std::optional<LayerStatistics> statistics;
    RK_RETURN_IF_ERROR(args_.progress(what));
    if (args_.statistics != nullptr) {
      RK_ASSIGN_OR_RETURN(
          statistics, args_.statistics->Get(layer, [&](double) { return args_.progress(what); }));
    }
    return statistics;
  }

  absl::StatusOr<std::vector<std::vector<double>>> SliceLosses(int64_t layer,
                                                               const Linears& linears) {
    RK_ASSIGN_OR_RETURN(const auto statistics,
                        Statistics(layer, absl::StrCat("layer ", layer + 1, ": weighing slices")));
    RK_ASSIGN_OR_RETURN(const auto fisher, ReadFisher(args_.fisher, linears));
    return SliceLossesOf(*args_.job, {.linears = linears,
                                      .statistics = statistics ? &*statistics : nullptr,
                                      .fisher = fisher ? &*fisher : nullptr});
  }

  ModelSearchArgs SearchArgs() {
    ModelSearchArgs search{.options = args_.options,
                           .job = args_.job,
                           .linears = args_.linears,
                           .text = args_.validation,
                           .model_digest = args_.model.model_digest,
                           .model_name = args_.model.model_name,
                           .made_by = args_.factor_arguments,
                           .work_folder = args_.work_folder,
                           .progress = args_.progress};
    search.factor = [this](int64_t layer, const Ranks& ranks) { return FactorAt(layer, ranks); };
    if (args_.statistics != nullptr) {
      search.statistics = [this](int64_t layer) {
        return args_.statistics->Get(layer, [](double) { return absl::OkStatus(); });
      };
    }
    return search;
  }

  absl::StatusOr<LayerPart> FactorAt(int64_t layer, const Ranks& ranks) {
    Linears linears;
    Allocation budgets;
    for (const LinearInfo& l : *args_.linears) {
      const auto rank = ranks.find(l.name);
      if (l.layer != layer || rank == ranks.end()) continue;
      linears.push_back(&l);
      budgets[l.name] = {.rank = rank->second};
    }
    RK_ASSIGN_OR_RETURN(
        const auto statistics,
        Statistics(layer, absl::StrCat("layer ", layer + 1, ": factoring for the search")));
    RK_ASSIGN_OR_RETURN(const auto fisher, ReadFisher(args_.fisher, linears));
    return FactorLayer(*args_.job, {.linears = linears,
                                    .budgets = budgets,
                                    .statistics = statistics ? &*statistics : nullptr,
                                    .fisher = fisher ? &*fisher : nullptr});
  }

  const PlannerArgs& args_;
};

}  // namespace

absl::StatusOr<BudgetPlan> MakeBudgetPlan(const PlannerArgs& args) { return Planner(args).Run(); }

}  // namespace rankine
