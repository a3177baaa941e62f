#include "tools/compress/budget_plan.h"

#include <cmath>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

absl::Status CheckRanges(const FactorizeOptions& o) {
  if (!(o.keep > 0 && o.keep <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("keep ", o.keep, " is outside (0, 1]: it is the share of parameters kept"));
  }
  if (!(o.bits >= 0) || !std::isfinite(o.bits)) {
    return absl::InvalidArgumentError(absl::StrCat("bits ", o.bits, " must be above 0"));
  }
  if (o.rank < 0 || o.bytes < 0 || o.rank_multiple < 1) {
    return absl::InvalidArgumentError("bytes, ranks and their multiple must be at least 1");
  }
  if ((o.bits > 0) + (o.rank > 0) + (o.bytes > 0) > 1) {
    return absl::InvalidArgumentError("give one budget: bits, bytes or a rank");
  }
  return absl::OkStatus();
}

// The losses of every linear, in the order of request->linears.
absl::Status AddLosses(const std::vector<LinearInfo>& linears, const LayerLosses& losses,
                       AllocationRequest* request) {
  std::map<int64_t, std::vector<size_t>> by_layer;
  for (size_t i = 0; i < linears.size(); ++i) by_layer[linears[i].layer].push_back(i);
  for (const auto& [layer, indices] : by_layer) {
    std::vector<const LinearInfo*> members;
    for (const size_t i : indices) members.push_back(&linears[i]);
    RK_ASSIGN_OR_RETURN(auto of_layer, losses(layer, members));
    for (size_t k = 0; k < indices.size(); ++k) {
      request->linears[indices[k]].losses = std::move(of_layer[k]);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSearchOptions(const FactorizeOptions& o, const AllocationPolicy& policy,
                                const Method& method) {
  if (!policy.needs_model_loss) {
    if (o.validation_files.empty() && o.search_file.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("--validation and --search-file go with policies that look at the model's "
                     "loss (sensitivity, bayes, laser), not with ",
                     o.allocation));
  }
  if (o.validation_files.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("allocation ", o.allocation,
                     " looks at the model's loss: give a text for it, --validation FILE, which is "
                     "neither that of the calibration nor that of any evaluation"));
  }
  if (o.validation_window < 2) {
    return absl::InvalidArgumentError("a validation window has at least two tokens");
  }
  if (method.sees_prefix || method.factorize == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("allocation ", o.allocation, " factors linears one at a time, which method ",
                     o.method, " does not; use another method, or --allocation list"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckBudgetOptions(const FactorizeOptions& o, const Method& method) {
  RK_RETURN_IF_ERROR(CheckRanges(o));
  RK_ASSIGN_OR_RETURN(const AllocationPolicy* policy, FindAllocationPolicy(o.allocation));
  if (policy->needs_losses && method.slice_losses == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("allocation ", o.allocation,
                                                   " weighs slices, "
                                                   "which method ",
                                                   o.method,
                                                   " does not have; use uniform or list"));
  }
  if (o.allocation != "uniform" && o.rank > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("allocation ", o.allocation, " chooses ranks: give no --rank"));
  }
  if (o.allocation != "list" && !o.allocation_list.empty()) {
    return absl::InvalidArgumentError("--allocation-list goes with --allocation list");
  }
  return CheckSearchOptions(o, *policy, method);
}

absl::StatusOr<Allocation> PlanBudgets(const FactorizeOptions& options, const FactorJob& job,
                                       const std::vector<LinearInfo>& linears,
                                       const LayerLosses& losses, const LossOfRanks& loss_of) {
  Allocation allocation;
  if (options.rank > 0) {
    for (const LinearInfo& l : linears) allocation[l.name] = {.rank = options.rank};
    return allocation;
  }
  RK_ASSIGN_OR_RETURN(const AllocationPolicy* policy, FindAllocationPolicy(options.allocation));
  AllocationRequest request{.encoding = job.encoding,
                            .rank_multiple = options.rank_multiple,
                            .tokens = job.text_tokens,
                            .list_path = options.allocation_list,
                            .loss_of = loss_of,
                            .search = options.search};
  const Method& method = *job.method;
  const bool adds_bias = method.adds_bias != nullptr && method.adds_bias(*job.settings);
  double parameters = 0;
  for (const LinearInfo& l : linears) {
    request.linears.push_back({.name = l.name,
                               .out_features = l.out_features(),
                               .in_features = l.in_features(),
                               .dense_bits = DenseBits(l, job.block_dtype),
                               .extra = adds_bias && l.bias_tensor.empty() ? l.out_features() : 0});
    parameters += static_cast<double>(request.linears.back().parameters());
  }
  if (options.bits > 0) {
    request.bits = options.bits * parameters;
  } else if (options.bytes > 0) {
    request.bits = 8 * static_cast<double>(options.bytes);
  } else {
    request.parameters = options.keep * parameters;
  }
  if (policy->needs_losses) RK_RETURN_IF_ERROR(AddLosses(linears, losses, &request));
  return policy->allocate(request);
}

}  // namespace rankine
