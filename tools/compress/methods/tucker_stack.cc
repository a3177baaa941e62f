// T is [heads, head_dim, features]. Without o, all slices meet the same H: T H^1/2 is decomposed
// and the answer follows in closed form, as for one weight. With o there is no such form, as o
// meets its own H over heads x head_dim and none over features: the core and the factor of the
// features are fitted in turns (stack_fit.h), beginning with a HOOI in which both H are multiples
// of the identity. With --weighting full each linear's error counts as a share of E|y|^2, which
// scales its heads; with none the stack is taken as it is.
#include "tools/compress/methods/tucker_stack.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/methods/store.h"
#include "tools/compress/methods/tucker.h"
#include "tools/compress/methods/tucker_form.h"
#include "tools/compress/methods/tucker_ranks.h"
#include "tools/compress/psd_pair.h"
#include "tools/compress/stack_fit.h"

namespace rankine {
namespace {

using Kind = AttentionRole::Kind;

bool IsInStack(Kind kind, const std::string& stack) {
  return stack != "none" && (stack == "qkvo" || kind != Kind::kOutput);
}

// One linear of a stack.
struct Member {
  const MethodInput* input = nullptr;
  int64_t first_head = 0, heads = 0;
  double energy = 1;  // E|W x|^2, 1 where it is zero
};

class Stack {
 public:
  explicit Stack(absl::Span<const MethodInput> inputs)
      : inputs_(inputs), stack_(inputs[0].settings->Word("stack")) {}

  absl::StatusOr<std::vector<Factorization>> Run() {
    RK_RETURN_IF_ERROR(CheckMembers());
    Gather();
    RK_ASSIGN_OR_RETURN(const std::optional<TuckerForm> form, Decompose());
    std::vector<Factorization> results(inputs_.size());
    if (form) RK_RETURN_IF_ERROR(Store(*form, &results));
    return results;
  }

 private:
  struct Stored {
    Term term;
    std::vector<StoredTensor> tensors;
    int64_t rank = 0;
  };

  bool is_weighted() const { return IsWeighted(inputs_[0]); }
  bool has_transposed() const { return stack_ == "qkvo"; }
  int64_t features() const { return members_[0].input->weight->cols; }
  int64_t dim() const { return members_[0].input->heads->dim; }
  const Matrix64* moments() const {
    return is_weighted() ? &members_[0].input->moments->second : nullptr;
  }
  TuckerModes modes() const { return {{heads_, dim(), features()}, 2}; }
  // Rows of the stack before those of o.
  int64_t split() const {
    return has_transposed() ? members_.back().first_head * dim() : heads_ * dim();
  }

  absl::Status CheckMembers();
  absl::Status CheckMember(const MethodInput& input) const;
  void Gather();
  MethodInput SharedInput(const Matrix64* weight) const;
  std::vector<double> HeadScales(double of_input, double of_transposed) const;
  Matrix64 Scaled(const std::vector<double>& head_scales) const;
  void Unscale(const std::vector<double>& head_scales, TuckerForm* form) const;
  absl::StatusOr<std::optional<TuckerForm>> Decompose() const;
  absl::StatusOr<std::optional<TuckerForm>> InOneMetric() const;
  absl::StatusOr<std::optional<TuckerForm>> InTwoMetrics() const;
  absl::StatusOr<Matrix64> SliceBySlice() const;
  StackMetric Metric() const;
  absl::StatusOr<Stored> StoreWhole(const TuckerForm& form) const;
  FactoredMatrix MatrixOfMember(const Member& m, Term term) const;
  absl::Status Store(const TuckerForm& form, std::vector<Factorization>* results) const;

  absl::Span<const MethodInput> inputs_;
  const std::string stack_;
  std::vector<Member> members_;  // q, k, v and o
  int64_t heads_ = 0;            // of all
  Matrix64 weight_;              // [heads dim, features]
};

std::string Missing(const std::string& stack, const std::string& block, Kind kind) {
  constexpr const char* kNames[] = {"query", "key", "value", "output"};
  return absl::StrCat("--stack ", stack, " makes one tensor of ", block, ", but its ",
                      kNames[static_cast<int>(kind)],
                      " projection is not selected, or is left dense: select it, or use another "
                      "--stack. (Policies that factor one linear at a time go with --stack none.)");
}

absl::Status Stack::CheckMember(const MethodInput& input) const {
  const auto error = [&](const std::string& what) {
    return absl::InvalidArgumentError(
        absl::StrCat(input.name, " does not fit into the stack: ", what, "; use --stack none"));
  };
  RK_RETURN_IF_ERROR(CheckTuckerInput(input));
  if (!input.heads) {
    return error(absl::StrCat("the model's config gives its [", input.weight->rows, ", ",
                              input.weight->cols,
                              "] no attention heads that multiply to one side"));
  }
  if (input.heads->dim != dim()) {
    return error(absl::StrCat("its heads have ", input.heads->dim, " dimensions, those of ",
                              members_[0].input->name, " ", dim()));
  }
  const int64_t own = input.heads->on_input ? input.weight->rows : input.weight->cols;
  if (own != features()) {
    return error(absl::StrCat("beside the heads it has ", own, " features, ",
                              members_[0].input->name, " ", features()));
  }
  return absl::OkStatus();
}

absl::Status Stack::CheckMembers() {
  const std::string block = RoleOf(inputs_[0].name)->block;
  for (const Kind kind : {Kind::kQuery, Kind::kKey, Kind::kValue, Kind::kOutput}) {
    if (!IsInStack(kind, stack_)) continue;
    const auto found = std::find_if(inputs_.begin(), inputs_.end(), [&](const MethodInput& input) {
      return RoleOf(input.name)->kind == kind;
    });
    if (found == inputs_.end()) {
      return absl::InvalidArgumentError(Missing(stack_, block, kind));
    }
    members_.push_back({.input = &*found});
    RK_RETURN_IF_ERROR(CheckMember(*found));
  }
  if (inputs_[0].settings->Word("ways") == "2") {
    return absl::InvalidArgumentError("a stack has three modes: leave out --ways 2, or --stack");
  }
  if (has_transposed() && !inputs_[0].encoding.IsFloat()) {
    return absl::InvalidArgumentError(
        "o sums the legs of the shared cores that q, k and v do not, which block encodings cannot: "
        "use --stack qkv, or --factor-encode bf16");
  }
  return absl::OkStatus();
}

void Stack::Gather() {
  for (Member& m : members_) {
    m.first_head = heads_;
    m.heads = m.input->heads->count;
    heads_ += m.heads;
    if (!is_weighted()) continue;
    const double energy = SquaredWeightedNorm(*m.input->weight, m.input->moments->second);
    if (energy > 0) m.energy = energy;
  }
  weight_ = Matrix64(0, features());
  for (const Member& m : members_) {
    const Matrix64 rows =
        m.input->heads->on_input ? Transposed(*m.input->weight) : *m.input->weight;
    weight_.rows += rows.rows;
    weight_.values.insert(weight_.values.end(), rows.values.begin(), rows.values.end());
  }
}

// The stack as one linear, for what asks no more than a weight, a budget and the settings.
MethodInput Stack::SharedInput(const Matrix64* weight) const {
  MethodInput shared = *members_[0].input;
  shared.weight = weight;
  shared.budget.parameters = shared.budget.bits = 0;
  bool has_parameters = true, has_bits = true;  // what bounds not all does not bound the sum
  for (const Member& m : members_) {
    has_parameters &= m.input->budget.parameters > 0;
    has_bits &= m.input->budget.bits > 0;
  }
  for (const Member& m : members_) {
    if (has_parameters) shared.budget.parameters += m.input->budget.parameters;
    if (has_bits) shared.budget.bits += m.input->budget.bits;
  }
  return shared;
}

// Of each head: the root of its linear's weight, times the root of a metric's scale.
std::vector<double> Stack::HeadScales(double of_input, double of_transposed) const {
  std::vector<double> scales;
  for (const Member& m : members_) {
    const double metric = m.input->heads->on_input ? of_transposed : of_input;
    scales.insert(scales.end(), static_cast<size_t>(m.heads), std::sqrt(metric / m.energy));
  }
  return scales;
}

Matrix64 Stack::Scaled(const std::vector<double>& head_scales) const {
  Matrix64 scaled = weight_;
  for (int64_t i = 0; i < scaled.rows; ++i) {
    for (int64_t j = 0; j < scaled.cols; ++j) scaled(i, j) *= head_scales[i / dim()];
  }
  return scaled;
}

void Stack::Unscale(const std::vector<double>& head_scales, TuckerForm* form) const {
  Matrix64& a = form->outputs[0];
  const bool in_core = a.rows == a.cols;  // no factor
  const int64_t per_head = in_core ? form->core.NumbersPerSlice(0) : a.cols;
  std::vector<double>& values = in_core ? form->core.values : a.values;
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] /= head_scales[i / static_cast<size_t>(per_head)];
  }
}

absl::StatusOr<std::optional<TuckerForm>> Stack::Decompose() const {
  return is_weighted() && has_transposed() ? InTwoMetrics() : InOneMetric();
}

absl::StatusOr<std::optional<TuckerForm>> Stack::InOneMetric() const {
  const std::vector<double> scales = HeadScales(1, 1);
  const Matrix64 scaled = Scaled(scales);
  Tensor64 t(modes().extents, scaled.values);
  if (moments() != nullptr) {
    RK_ASSIGN_OR_RETURN(const Matrix64 root, RootOf(*moments()));
    t.values = MatrixProduct(scaled, root).values;
  }
  RK_ASSIGN_OR_RETURN(const auto ranks, TuckerRanks(SharedInput(&weight_), modes(), t));
  if (ranks.empty()) return std::nullopt;
  RK_ASSIGN_OR_RETURN(Tucker tucker, Hooi(t, ranks));
  RK_ASSIGN_OR_RETURN(TuckerForm form, ClosedForm(scaled, moments(), std::move(tucker)));
  Unscale(scales, &form);
  return form;
}

StackMetric Stack::Metric() const {
  StackMetric metric{.inputs = *moments(), .transposed = members_.back().input->moments->second};
  for (const Member& m : members_) {
    if (m.input->heads->on_input) {
      for (double& v : metric.transposed.values) v /= m.energy;
    } else {
      metric.row_weights.insert(metric.row_weights.end(), static_cast<size_t>(m.heads * dim()),
                                1 / m.energy);
    }
  }
  return metric;
}

// W H^1/2 of what reads the input, H_o^1/2 W of o: what each slice loses, though no one basis of
// the features goes with both.
absl::StatusOr<Matrix64> Stack::SliceBySlice() const {
  const StackMetric metric = Metric();
  RK_ASSIGN_OR_RETURN(const Matrix64 root, SymmetricRoot(metric.inputs));
  RK_ASSIGN_OR_RETURN(const Matrix64 transposed_root, SymmetricRoot(metric.transposed));
  Matrix64 result = MatrixProduct(weight_, root);
  Matrix64 o(weight_.rows - split(), features());
  std::copy(weight_.Row(split()), weight_.Row(weight_.rows), o.values.begin());
  o = MatrixProduct(transposed_root, o);
  for (int64_t i = 0; i < split(); ++i) {
    for (int64_t j = 0; j < features(); ++j) result(i, j) *= std::sqrt(metric.row_weights[i]);
  }
  std::copy(o.values.begin(), o.values.end(), result.Row(split()));
  return result;
}

double MeanDiagonal(const Matrix64& h) {
  double trace = 0;
  for (int64_t i = 0; i < h.rows; ++i) trace += h(i, i);
  return trace > 0 ? trace / static_cast<double>(h.rows) : 1;
}

// Two choices of ranks are fitted, those that keep most of the stack where the fit begins and those
// that keep most slice by slice; the better under the metric stays.
absl::StatusOr<std::optional<TuckerForm>> Stack::InTwoMetrics() const {
  const std::vector<double> scales =
      HeadScales(MeanDiagonal(*moments()), MeanDiagonal(members_.back().input->moments->second));
  const Tensor64 start(modes().extents, Scaled(scales).values);
  RK_ASSIGN_OR_RETURN(Matrix64 sliced, SliceBySlice());
  const MethodInput shared = SharedInput(&weight_);
  RK_ASSIGN_OR_RETURN(const auto of_start, TuckerRanks(shared, modes(), start));
  if (of_start.empty()) return std::nullopt;
  RK_ASSIGN_OR_RETURN(
      const auto of_slices,
      TuckerRanks(shared, modes(), Tensor64(modes().extents, std::move(sliced.values))));
  const StackMetric metric = Metric();
  std::optional<TuckerForm> best;
  double least = 0;
  for (const auto* ranks : {&of_start, &of_slices}) {
    if (best && *ranks == of_start) continue;
    RK_ASSIGN_OR_RETURN(Tucker tucker, Hooi(start, *ranks));
    TuckerForm form{.outputs = {tucker.factors[0], tucker.factors[1]},
                    .inputs = {Transposed(tucker.factors[2])},
                    .core = std::move(tucker.core)};
    Unscale(scales, &form);
    StackForm fitted{form.outputs[0], form.outputs[1], form.inputs[0], form.core};
    RK_RETURN_IF_ERROR(FitStack(weight_, metric, {}, &fitted));
    const double error = StackError(metric, Difference(weight_, StackProduct(fitted)));
    if (best && error >= least) continue;
    least = error;
    form.inputs[0] = std::move(fitted.features);
    form.core = std::move(fitted.core);
    best = std::move(form);
  }
  return best;
}

// The term of the whole stack, whose legs are called heads, dim and features, and its tensors.
absl::StatusOr<Stack::Stored> Stack::StoreWhole(const TuckerForm& form) const {
  const std::string name = absl::StrCat(RoleOf(inputs_[0].name)->block, ".", stack_);
  Stored stored;
  const auto add = [&](const char* core, std::vector<LegRange> legs,
                       absl::Span<const double> values) {
    return AddCore({.matrix = name,
                    .name = core,
                    .legs = std::move(legs),
                    .encoding = inputs_[0].encoding,
                    .values = values},
                   &stored.term, &stored.tensors);
  };
  const Matrix64* const factors[] = {&form.outputs[0], &form.outputs[1], &form.inputs[0]};
  const char* const kCores[] = {"A", "B", "C"};
  const char* const kBonds[] = {"a", "b", "c"};
  std::vector<LegRange> core_legs = {
      {"heads", 0, heads_}, {"dim", 0, dim()}, {"features", 0, features()}};
  for (size_t k = 0; k < 3; ++k) {
    if (factors[k]->rows == factors[k]->cols) continue;  // in full: the core has the leg
    const LegRange outer = core_legs[k];
    const bool is_features = k == 2;
    core_legs[k] = {kBonds[k], 0, is_features ? factors[k]->rows : factors[k]->cols};
    stored.rank = std::max(stored.rank, core_legs[k].extent);
    std::vector<LegRange> legs{outer, core_legs[k]};
    if (is_features) std::swap(legs[0], legs[1]);
    RK_RETURN_IF_ERROR(add(kCores[k], std::move(legs), factors[k]->values));
  }
  RK_RETURN_IF_ERROR(add("G", core_legs, form.core.values));
  return stored;
}

// A linear's range of the heads, under its own names of the legs.
FactoredMatrix Stack::MatrixOfMember(const Member& m, Term term) const {
  const bool transposed = m.input->heads->on_input;
  for (Core& core : term.cores) {
    for (LegRange& leg : core.legs) {
      if (leg.name == "heads") {
        leg = {transposed ? "i1" : "o1", m.first_head, m.heads, heads_};
      } else if (leg.name == "dim") {
        leg.name = transposed ? "i2" : "o2";
      } else if (leg.name == "features") {
        leg.name = transposed ? "o" : "i";
      }
    }
  }
  FactoredMatrix matrix = MatrixOf(*m.input);
  const std::vector<OuterLeg> split = {{transposed ? "i1" : "o1", m.heads},
                                       {transposed ? "i2" : "o2", dim()}};
  (transposed ? matrix.input_legs : matrix.output_legs) = split;
  matrix.terms.push_back(std::move(term));
  return matrix;
}

absl::Status Stack::Store(const TuckerForm& form, std::vector<Factorization>* results) const {
  RK_ASSIGN_OR_RETURN(Stored stored, StoreWhole(form));
  const auto result_of = [&](const Member& m) -> Factorization& {
    return (*results)[static_cast<size_t>(m.input - inputs_.data())];
  };
  for (const Member& m : members_) {
    result_of(m).matrix = MatrixOfMember(m, stored.term);
    result_of(m).rank = stored.rank;
  }
  result_of(members_[0]).tensors = std::move(stored.tensors);
  return absl::OkStatus();
}

}  // namespace

std::vector<std::vector<size_t>> JoinTucker(absl::Span<const LinearShape> linears,
                                            const MethodSettings& settings) {
  const std::string& stack = settings.Word("stack");
  std::map<std::string, std::vector<size_t>> blocks;
  std::vector<std::vector<size_t>> joined;
  for (size_t i = 0; i < linears.size(); ++i) {
    const auto role = RoleOf(linears[i].name);
    if (role && IsInStack(role->kind, stack)) {
      blocks[role->block].push_back(i);
    } else {
      joined.push_back({i});
    }
  }
  for (auto& [block, members] : blocks) joined.push_back(std::move(members));
  return joined;
}

absl::StatusOr<std::vector<Factorization>> FactorizeTuckerJointly(
    absl::Span<const MethodInput> inputs) {
  RK_CHECK(!inputs.empty() && inputs[0].settings != nullptr);
  const auto role = RoleOf(inputs[0].name);
  if (role && IsInStack(role->kind, inputs[0].settings->Word("stack"))) return Stack(inputs).Run();
  RK_CHECK(inputs.size() == 1);
  RK_ASSIGN_OR_RETURN(Factorization alone, FactorizeTucker(inputs[0]));
  std::vector<Factorization> results;
  results.push_back(std::move(alone));
  return results;
}

}  // namespace rankine
