// From a run's options to the budget of each linear.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/compress/allocation/allocation.h"
#include "tools/compress/factorize.h"
#include "tools/compress/layer_factorizer.h"

namespace rankine {

// kInvalidArgument: a budget out of range, two budgets, or a policy that does not go with the
// method or the budget.
absl::Status CheckBudgetOptions(const FactorizeOptions& options, const Method& method);

// Slice losses of a layer's linears, in order. Called for rising layers.
using LayerLosses = std::function<absl::StatusOr<std::vector<std::vector<double>>>(
    int64_t layer, const std::vector<const LinearInfo*>& linears)>;

// Requires checked options. `losses` and `loss_of` are called only for policies that need them.
absl::StatusOr<Allocation> PlanBudgets(const FactorizeOptions& options, const FactorJob& job,
                                       const std::vector<LinearInfo>& linears,
                                       const LayerLosses& losses, const LossOfRanks& loss_of = {});

}  // namespace rankine
