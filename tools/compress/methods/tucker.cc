// W is a tensor T over its modes: [o1, o2, i] with heads on the outputs, [o, i1, i2] with heads on
// the inputs, [o, i] without. A mode of full rank has no factor: the core takes its place, as an
// orthonormal square matrix only costs numbers.
//
// Under H: where the input is one mode, T H^1/2 is decomposed. With A, B of the output modes and U
// the left singular vectors of (A x B)^T W H^1/2, the answer is (A x B) U U^T (A x B)^T W, so that
// H is not inverted (WeightedSvd). Where the input is heads x dim, H mixes its modes: T itself is
// decomposed, and the core that holds the output leg is fitted to the others under H.
#include "tools/compress/methods/tucker.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/methods/store.h"
#include "tools/compress/methods/tucker_ranks.h"
#include "tools/compress/tucker_decomposition.h"

namespace rankine {
namespace {

bool IsWeighted(const MethodInput& input) { return input.settings->Word("weighting") == "full"; }

absl::StatusOr<TuckerModes> ModesOf(const MethodInput& input) {
  const int64_t m = input.weight->rows, n = input.weight->cols;
  const std::string& ways = input.settings->Word("ways");
  const auto& heads = input.heads;
  if (ways == "3" && !heads) {
    return absl::InvalidArgumentError(
        "the model's config gives this linear no attention heads to make a third mode of: use "
        "--ways auto or 2, or leave it out with --skip");
  }
  if (ways == "2" || !heads) return TuckerModes{{m, n}, 1};
  if (!heads->on_input) return TuckerModes{{heads->count, heads->dim, n}, 2};
  if (input.encoding.IsFloat()) return TuckerModes{{m, heads->count, heads->dim}, 1};
  if (ways == "auto") return TuckerModes{{m, n}, 1};
  return absl::InvalidArgumentError(
      "heads on the input side are two legs that the core sums, which block encodings cannot: use "
      "--ways auto or 2, or --factor-encode bf16");
}

// The factors of all modes; those of full rank are not stored.
struct Form {
  std::vector<Matrix64> outputs;  // [extent, rank]
  std::vector<Matrix64> inputs;   // [rank, extent]
  Tensor64 core;
};

// With the input as one mode: A, B from HOOI, then the rest in closed form under h (null: the
// Frobenius norm).
absl::StatusOr<Form> ClosedForm(const MethodInput& input, const Matrix64* h, Tucker tucker) {
  const size_t outputs = tucker.factors.size() - 1;
  std::vector<int64_t> extents = tucker.core.extents;
  Form form;
  std::vector<int64_t> split;
  for (size_t k = 0; k < outputs; ++k) split.push_back(tucker.factors[k].rows);
  split.push_back(input.weight->cols);
  Tensor64 projected(split, input.weight->values);
  for (size_t k = 0; k < outputs; ++k) {
    projected = ModeProduct(projected, k, Transposed(tucker.factors[k]));
    form.outputs.push_back(std::move(tucker.factors[k]));
  }
  const int64_t rank = extents.back(), n = input.weight->cols;
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

// With the input as heads x dim: what holds the output leg is fitted under h.
absl::StatusOr<Form> FittedForm(const MethodInput& input, const Matrix64* h, Tucker tucker) {
  Form form;
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
  RK_ASSIGN_OR_RETURN(Matrix64 fitted, FitLeft(MatrixProduct(*input.weight, *h), rows, *h));
  if (in_core) {
    form.core.values = std::move(fitted.values);
  } else {
    a = std::move(fitted);
  }
  return form;
}

absl::StatusOr<Factorization> Store(const MethodInput& input, const Form& form) {
  Factorization result{.matrix = MatrixOf(input)};
  FactoredMatrix& m = result.matrix;
  m.output_legs.clear();
  m.input_legs.clear();
  Term term;
  const auto add = [&](const std::string& name, std::vector<LegRange> legs,
                       absl::Span<const double> values) {
    return AddCore({.matrix = input.name,
                    .name = name,
                    .legs = std::move(legs),
                    .encoding = input.encoding,
                    .values = values},
                   &term, &result.tensors);
  };
  const char* const kNames[] = {"A", "B", "C"};
  const char* const kBonds[] = {"a", "b", "c"};
  std::vector<LegRange> core_legs;
  const size_t outputs = form.outputs.size(), inputs = form.inputs.size();
  for (size_t k = 0; k < outputs; ++k) {
    const Matrix64& f = form.outputs[k];
    const LegRange outer{outputs == 1 ? "o" : absl::StrCat("o", k + 1), 0, f.rows};
    m.output_legs.push_back({outer.name, outer.extent});
    core_legs.push_back(outer);
    if (f.cols == f.rows) continue;
    core_legs.back() = {kBonds[k], 0, f.cols};
    result.rank = std::max(result.rank, f.cols);
    RK_RETURN_IF_ERROR(add(kNames[k], {outer, core_legs.back()}, f.values));
  }
  std::vector<LegRange> outer_inputs;
  for (size_t k = 0; k < inputs; ++k) {
    const Matrix64& f = form.inputs[k];
    outer_inputs.push_back({inputs == 1 ? "i" : absl::StrCat("i", k + 1), 0, f.cols});
    m.input_legs.push_back({outer_inputs[k].name, f.cols});
    core_legs.push_back(outer_inputs[k]);
    if (f.cols == f.rows) continue;
    core_legs.back() = {kBonds[outputs + k], 0, f.rows};
    result.rank = std::max(result.rank, f.rows);
  }
  RK_RETURN_IF_ERROR(add("G", core_legs, form.core.values));
  for (size_t k = 0; k < inputs; ++k) {
    const Matrix64& f = form.inputs[k];
    if (f.cols == f.rows) continue;
    RK_RETURN_IF_ERROR(
        add(kNames[outputs + k], {core_legs[outputs + k], outer_inputs[k]}, f.values));
  }
  m.terms.push_back(std::move(term));
  return result;
}

absl::Status CheckInput(const MethodInput& input) {
  if (!IsWeighted(input)) return CheckFinite(*input.weight);
  if (input.moments == nullptr) {
    return absl::InvalidArgumentError(
        "--weighting full needs a calibration text: give --calibration FILE or --statistics of "
        "rankine calibrate, or --weighting none");
  }
  RK_RETURN_IF_ERROR(CheckFinite(input.moments->second));
  return CheckFinite(*input.weight);
}

}  // namespace

absl::StatusOr<Factorization> FactorizeTucker(const MethodInput& input) {
  RK_CHECK(input.settings != nullptr);
  RK_RETURN_IF_ERROR(CheckInput(input));
  RK_ASSIGN_OR_RETURN(const TuckerModes modes, ModesOf(input));
  const Matrix64* h = IsWeighted(input) ? &input.moments->second : nullptr;
  const bool one_input = modes.outputs + 1 == modes.extents.size();
  Tensor64 t(modes.extents, input.weight->values);
  if (h != nullptr && one_input) {
    RK_ASSIGN_OR_RETURN(const Matrix64 root, RootOf(*h));
    t.values = MatrixProduct(*input.weight, root).values;
  }
  RK_ASSIGN_OR_RETURN(const std::vector<int64_t> ranks, TuckerRanks(input, modes, t));
  if (ranks.empty()) return Factorization{};
  RK_ASSIGN_OR_RETURN(Tucker tucker, Hooi(t, ranks));
  RK_ASSIGN_OR_RETURN(const Form form, one_input ? ClosedForm(input, h, std::move(tucker))
                                                 : FittedForm(input, h, std::move(tucker)));
  return Store(input, form);
}

}  // namespace rankine
