// W is a tensor T over its modes: [o1, o2, i] with heads on the outputs, [o, i1, i2] with heads on
// the inputs, [o, i] without. A mode of full rank has no factor: the core takes its place, as an
// orthonormal square matrix only costs numbers.
#include "tools/compress/methods/tucker.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/methods/store.h"
#include "tools/compress/methods/tucker_form.h"
#include "tools/compress/methods/tucker_ranks.h"
#include "tools/compress/tucker_decomposition.h"

namespace rankine {
namespace {

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

absl::StatusOr<Factorization> Store(const MethodInput& input, const TuckerForm& form) {
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

}  // namespace

absl::StatusOr<Factorization> FactorizeTucker(const MethodInput& input) {
  RK_CHECK(input.settings != nullptr);
  RK_RETURN_IF_ERROR(CheckTuckerInput(input));
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
  RK_ASSIGN_OR_RETURN(const TuckerForm form, one_input
                                                 ? ClosedForm(*input.weight, h, std::move(tucker))
                                                 : FittedForm(*input.weight, h, std::move(tucker)));
  return Store(input, form);
}

}  // namespace rankine
