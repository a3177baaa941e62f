// Decides the budgets of a factorisation before its layers are factored, going over the layers, or
// running the model, as far as its policy wants.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/compress/allocation/allocation.h"
#include "tools/compress/calibration_text.h"
#include "tools/compress/factorize.h"
#include "tools/compress/fisher_file.h"
#include "tools/compress/layer_factorizer.h"
#include "tools/compress/statistics_provider.h"
#include "tools/compress/work_folder.h"

namespace rankine {

// Pointers outlive the call.
struct PlannerArgs {
  const FactorizeOptions* options = nullptr;
  const FactorJob* job = nullptr;
  const std::vector<LinearInfo>* linears = nullptr;
  StatisticsProvider* statistics = nullptr;  // null = no calibration
  const FisherFile* fisher = nullptr;        // null = none
  // For policies that look at the model's loss: the model's digest and name, the validation text,
  // and what decides the factors at a given rank.
  StatisticsInfo model;
  CalibrationText validation;
  WorkArguments factor_arguments;
  std::string work_folder;
  std::function<absl::Status(const std::string& what)> progress;
};

struct BudgetPlan {
  Allocation budgets;  // of all linears
  std::optional<SearchReport> search;
};

absl::StatusOr<BudgetPlan> MakeBudgetPlan(const PlannerArgs& args);

}  // namespace rankine
