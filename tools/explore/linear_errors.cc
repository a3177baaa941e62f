#include "tools/explore/linear_errors.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"
#include "tools/compress/layer_factorizer.h"
#include "tools/compress/linears.h"
#include "tools/explore/layer_walk.h"
#include "tools/explore/parallel.h"

namespace rankine {
namespace {

// The same linear of the other model, in whatever form.
absl::StatusOr<LinearInfo> Counterpart(const Checkpoint& model, const LinearInfo& linear) {
  LinearInfo found{.name = linear.name, .layer = linear.layer};
  for (const FactoredMatrix& m : model.factored()) {
    if (m.name != linear.name) continue;
    found.matrix = &m;
    found.bias_tensor = m.bias_tensor;
  }
  if (found.matrix == nullptr) {
    found.weight = model.Find(linear.name + ".weight");
    const std::string bias = linear.name + ".bias";
    if (model.Find(bias) != nullptr) found.bias_tensor = bias;
  }
  const bool is_there =
      found.matrix != nullptr || (found.weight != nullptr && found.weight->shape.size() == 2);
  if (is_there && found.out_features() == linear.out_features() &&
      found.in_features() == linear.in_features()) {
    return found;
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "it has no ", linear.name, " of [", linear.out_features(), ", ", linear.in_features(), "]"));
}

std::vector<double> BiasChange(const std::vector<double>& old, const std::vector<double>& fresh) {
  std::vector<double> change(std::max(old.size(), fresh.size()));
  for (size_t i = 0; i < change.size(); ++i) {
    change[i] = (i < old.size() ? old[i] : 0) - (i < fresh.size() ? fresh[i] : 0);
  }
  return change;
}

absl::StatusOr<LinearError> ErrorOf(const LinearErrorsArgs& args, const LinearInfo& linear,
                                    const Moments* moments) {
  RK_ASSIGN_OR_RETURN(const LinearInfo other, Counterpart(*args.model, linear));
  RK_ASSIGN_OR_RETURN(const Matrix64 weight, ReadWeight(*args.dense, linear));
  RK_ASSIGN_OR_RETURN(const Matrix64 changed, ReadWeight(*args.model, other));
  const Matrix64 delta = Difference(weight, changed);
  const double norm = SquaredNorm(weight);
  LinearError error{.name = linear.name,
                    .relative_error = norm > 0 ? std::sqrt(SquaredNorm(delta) / norm) : 0};
  if (moments != nullptr) {
    RK_ASSIGN_OR_RETURN(const std::vector<double> bias, ReadBias(*args.dense, linear));
    RK_ASSIGN_OR_RETURN(const std::vector<double> new_bias, ReadBias(*args.model, other));
    error.weighted_error = WeightedError(weight, delta, bias, BiasChange(bias, new_bias), *moments);
  }
  return error;
}

}  // namespace

absl::StatusOr<std::vector<LinearError>> LinearErrorsOf(const LinearErrorsArgs& args) {
  std::vector<LinearError> errors;
  RK_RETURN_IF_ERROR(WalkLayers(
      {.dense = args.dense, .statistics = args.statistics, .progress = args.progress},
      [&](const std::vector<const LinearInfo*>& linears, const LayerStatistics* statistics) {
        std::vector<LinearError> of_layer(linears.size());
        RK_RETURN_IF_ERROR(RunInParallel(linears.size(), args.threads, [&](size_t i) {
          auto error =
              ErrorOf(args, *linears[i],
                      statistics != nullptr ? statistics->Find(linears[i]->name) : nullptr);
          if (!error.ok()) return error.status();
          of_layer[i] = *std::move(error);
          return absl::OkStatus();
        }));
        std::move(of_layer.begin(), of_layer.end(), std::back_inserter(errors));
        return absl::OkStatus();
      }));
  return errors;
}

}  // namespace rankine
