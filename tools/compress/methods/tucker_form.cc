// Under H: where the input is one mode, T H^1/2 is decomposed. With A, B of the output modes and U
// the left singular vectors of (A x B)^T W H^1/2, the answer is (A x B) U U^T (A x B)^T W, so that
// H is not inverted (WeightedSvd). Where the input is heads x dim, H mixes its modes: T itself is
// decomposed, and the core that holds the output leg is fitted to the others under H.
#include "tools/compress/methods/tucker_form.h"

#include <utility>

#include "models/status_macros.h"

namespace rankine {

bool IsWeighted(const MethodInput& input) { return input.settings->Word("weighting") == "full"; }

absl::Status CheckTuckerInput(const MethodInput& input) {
  if (!IsWeighted(input)) return CheckFinite(*input.weight);
  if (input.moments == nullptr) {
    return absl::InvalidArgumentError(
        "--weighting full needs a calibration text: give --calibration FILE or --statistics of "
        "rankine calibrate, or --weighting none");
  }
  RK_RETURN_IF_ERROR(CheckFinite(input.moments->second));
  return CheckFinite(*input.weight);
}

absl::StatusOr<TuckerForm> ClosedForm(const Matrix64& weight, const Matrix64* h, Tucker tucker) {
  const size_t outputs = tucker.factors.size() - 1;
  std::vector<int64_t> extents = tucker.core.extents;
  TuckerForm form;
  std::vector<int64_t> split;
  for (size_t k = 0; k < outputs; ++k) split.push_back(tucker.factors[k].rows);
  split.push_back(weight.cols);
  Tensor64 projected(split, weight.values);
  for (size_t k = 0; k < outputs; ++k) {
    projected = ModeProduct(projected, k, Transposed(tucker.factors[k]));
    form.outputs.push_back(std::move(tucker.factors[k]));
  }
  const int64_t rank = extents.back(), n = weight.cols;
  if (rank == n) {
    form.core = std::move(projected);
    form.inputs.push_back(std::move(tucker.factors.back()));
    return form;
  }
  Matrix64 rows(tucker.core.NumbersPerSlice(outputs), n);
  rows.values = std::move(projected.values);
  RK_ASSIGN_OR_RETURN(SvdFactors f,
                      h == nullptr ? TruncatedSvd(rows, rank) : WeightedSvd(rows, *h, rank));
  for (int64_t r = 0; r < rank; ++r) {
    for (int64_t j = 0; j < n; ++j) f.v(r, j) *= f.s[static_cast<size_t>(r)];
  }
  form.core = Tensor64(extents, std::move(f.u.values));
  form.inputs.push_back(std::move(f.v));
  return form;
}

absl::StatusOr<TuckerForm> FittedForm(const Matrix64& weight, const Matrix64* h, Tucker tucker) {
  TuckerForm form;
  form.core = std::move(tucker.core);
  for (size_t k = 1; k < tucker.factors.size(); ++k) {
    form.inputs.push_back(Transposed(tucker.factors[k]));
  }
  form.outputs.push_back(std::move(tucker.factors[0]));
  if (h == nullptr) return form;
  Matrix64& a = form.outputs[0];
  const bool in_core = a.rows == a.cols;
  // What lies behind the leg, [rank, n]: the core and the inputs' factors, or those alone.
  Tensor64 behind = form.core;
  if (in_core) {
    const std::vector<int64_t> bc{form.core.extents[1], form.core.extents[2]};
    behind = Tensor64({bc[0] * bc[1], bc[0], bc[1]});
    for (int64_t k = 0; k < behind.extents[0]; ++k) {
      behind.values[static_cast<size_t>(k * behind.extents[0] + k)] = 1;
    }
  }
  for (size_t k = 0; k < 2; ++k) behind = ModeProduct(behind, k + 1, Transposed(form.inputs[k]));
  const Matrix64 rows = Unfold(behind, 0);
  RK_ASSIGN_OR_RETURN(Matrix64 fitted, FitLeft(MatrixProduct(weight, *h), rows, *h));
  if (in_core) {
    form.core.values = std::move(fitted.values);
  } else {
    a = std::move(fitted);
  }
  return form;
}

}  // namespace rankine
