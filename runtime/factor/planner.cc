#include "runtime/factor/planner.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/api/packed_core.h"
#include "kernels/api/quantized_rows.h"
#include "runtime/factor/product_cost.h"
#include "runtime/factor/step_key.h"

namespace rankine {
namespace {

constexpr double kTie = 1.02;

int64_t RowBytes(DType dtype, int64_t columns) {
  return dtype == DType::kI8 ? QuantizedRowBytes(columns)
                             : columns * static_cast<int64_t>(SizeOf(dtype));
}

// Whether a step's activations must be converted from what the step before it wrote.
bool Converts(const Lowering& lowering, size_t index, const PlannerOptions& options) {
  if (index == 0) return false;
  const DType want = ActivationsOf(lowering.steps[index], options);
  // What a leading identity copies is an output, so it is written in f32.
  return want == DType::kI8 || (want != DType::kF32 && lowering.steps[index].identity_rows > 0);
}

int CountSteps(const Lowering& lowering, const PlannerOptions& options) {
  int count = static_cast<int>(lowering.steps.size()) + lowering.num_gathers();
  for (size_t i = 0; i < lowering.steps.size(); ++i)
    count += Converts(lowering, i, options) ? 1 : 0;
  return count;
}

// Of a pass that reads and writes elements of f32.
double PassSeconds(int64_t elements, bool gathers, const DeviceProfile& profile) {
  StepCost cost{.activation_bytes = elements * 2 * 4};
  if (gathers) cost.compute_seconds = GatherSeconds(elements, profile);
  return cost.Seconds(profile);
}

double Seconds(const Term& term, const Lowering& lowering, const PlannerOptions& options,
               int64_t tokens) {
  double total = 0;
  for (size_t i = 0; i < lowering.steps.size(); ++i) {
    const LoweredStep& step = lowering.steps[i];
    const DType x = ActivationsOf(step, options);
    const int64_t x_bytes = tokens * step.rows * RowBytes(x, step.k);
    StepCost cost{.weight_bytes = PackedStepBytes(term, step, options.weight_dtype),
                  .activation_bytes = x_bytes + tokens * step.out_elements() * 4};
    cost.compute_seconds = ProductSeconds(
        {.n = step.n, .k = step.k, .rows = tokens * step.rows, .run = step.run, .x = x},
        options.profile);
    total += cost.Seconds(options.profile);
    const int64_t elements = tokens * step.rows * step.k;
    if (step.gathers) total += PassSeconds(elements, /*gathers=*/true, options.profile);
    if (Converts(lowering, i, options))
      total += PassSeconds(elements, /*gathers=*/false, options.profile);
  }
  if (lowering.gathers_output) {
    const int64_t elements = tokens * lowering.steps.back().out_elements();
    total += PassSeconds(elements, /*gathers=*/true, options.profile);
  }
  return total;
}

std::string BytesReason(const Term& term, const Candidate& candidate) {
  std::string why = absl::StrCat("needs ", candidate.extra_bytes, " bytes more than stored");
  if (!candidate.lowering.decoded.empty()) {
    absl::StrAppend(&why, " to hold core ", term.cores[candidate.lowering.decoded[0]].name,
                    " as floats");
  }
  return absl::StrCat(why, "; allow with --extra-weight-bytes");
}

// Which cores of a term others of the group hold as well: without them a folding saves nothing.
std::vector<bool> SharedCores(absl::Span<const FactoredMatrix> matrices, size_t matrix,
                              const Term& term) {
  std::vector<bool> shared;
  for (const Core& core : term.cores) shared.push_back(IsShared(matrices, matrix, core));
  return shared;
}

// Of the cores that are the term's own.
int64_t OwnBytes(const ContractionOrder& order, const std::vector<bool>& shared) {
  int64_t total = 0;
  for (const ContractionStep& step : order.steps) {
    if (step.cores.size() > 1 || !shared[step.cores[0]]) total += step.core_bytes;
  }
  return total;
}

TermChoice Candidates(absl::Span<const FactoredMatrix> matrices, size_t matrix, const Term& term,
                      std::vector<ContractionOrder> orders, const PlannerOptions& options) {
  TermChoice result;
  const TermLegs legs = LegsOf(matrices[matrix], term);
  const std::vector<bool> shared = SharedCores(matrices, matrix, term);
  const int64_t stored = OwnBytes(orders[0], shared);  // of the order without foldings
  for (ContractionOrder& order : orders) {
    Candidate candidate{.weight_bytes = order.weight_bytes()};
    if (Lower(legs, term, order, &candidate.lowering, &candidate.rejected)) {
      candidate.weight_bytes = 0;
      int64_t own = 0;
      for (const LoweredStep& step : candidate.lowering.steps) {
        const int64_t bytes = PackedStepBytes(term, step, options.weight_dtype);
        candidate.weight_bytes += bytes;
        if (step.cores.size() > 1 || !shared[step.cores[0]]) own += bytes;
      }
      candidate.num_steps = CountSteps(candidate.lowering, options);
      candidate.decode_microseconds = Seconds(term, candidate.lowering, options, 1) * 1e6;
      const bool other_form = order.num_foldings > 0 || !candidate.lowering.decoded.empty();
      if (other_form) candidate.extra_bytes = std::max<int64_t>(0, own - stored);
    }
    candidate.order = std::move(order);
    result.candidates.push_back(std::move(candidate));
  }
  return result;
}

absl::Status NoCandidate(const FactoredMatrix& m, const TermChoice& term) {
  std::string why;
  for (const Candidate& candidate : term.candidates) {
    if (why.find(candidate.rejected) == std::string::npos)
      absl::StrAppend(&why, "; ", candidate.order.expression, ": ", candidate.rejected);
    if (why.size() > 400) break;
  }
  return absl::UnimplementedError(
      absl::StrCat(m.name, ": no order of its contraction is supported", why));
}

// Regions and barriers are shared by all terms of a group, so the group is priced as a whole: bytes
// and operations add up, steps count once. For each number of steps that the group may take, each
// term takes its cheapest candidate; then terms go back to fewer foldings while that costs no more
// than a tie.
class GroupSearch {
 public:
  GroupSearch(std::vector<TermChoice*> terms, const PlannerOptions& options)
      : terms_(std::move(terms)), options_(options) {}

  void Run() {
    int deepest = 0;
    for (const TermChoice* term : terms_) {
      for (const Candidate& c : term->candidates) deepest = std::max(deepest, c.num_steps);
    }
    double best = std::numeric_limits<double>::infinity();
    for (int depth = 1; depth <= deepest; ++depth) {
      std::vector<int> chosen;
      const double seconds = Cheapest(depth, &chosen);
      if (seconds < best) best = seconds;
    }
    int fewest = std::numeric_limits<int>::max();
    for (int depth = 1; depth <= deepest; ++depth) {
      std::vector<int> chosen;
      const double seconds = Cheapest(depth, &chosen);
      if (seconds > best * kTie) continue;
      const int foldings = Unfold(depth, best * kTie - seconds, &chosen);
      if (foldings >= fewest) continue;
      fewest = foldings;
      for (size_t i = 0; i < terms_.size(); ++i) terms_[i]->chosen = chosen[i];
    }
  }

 private:
  // Of a candidate without its steps' overhead.
  double Own(const Candidate& c) const {
    return c.microseconds * 1e-6 - c.num_steps * options_.profile.step_seconds;
  }

  // Infinity when a term has no candidate of so few steps.
  double Cheapest(int depth, std::vector<int>* chosen) const {
    double total = depth * options_.profile.step_seconds;
    for (const TermChoice* term : terms_) {
      double least = std::numeric_limits<double>::infinity();
      chosen->push_back(-1);
      for (size_t c = 0; c < term->candidates.size(); ++c) {
        const Candidate& candidate = term->candidates[c];
        if (!candidate.rejected.empty() || candidate.num_steps > depth) continue;
        if (Own(candidate) >= least) continue;
        least = Own(candidate);
        chosen->back() = static_cast<int>(c);
      }
      total += least;
    }
    return total;
  }

  int Unfold(int depth, double spare_seconds, std::vector<int>* chosen) const {
    int foldings = 0;
    for (size_t i = 0; i < terms_.size(); ++i) {
      const std::vector<Candidate>& candidates = terms_[i]->candidates;
      const double now = Own(candidates[(*chosen)[i]]);
      int best = (*chosen)[i];
      for (size_t c = 0; c < candidates.size(); ++c) {
        const Candidate& other = candidates[c];
        if (!other.rejected.empty() || other.num_steps > depth) continue;
        if (Own(other) - now > spare_seconds) continue;
        const int delta = other.order.num_foldings - candidates[best].order.num_foldings;
        if (delta < 0 || (delta == 0 && Own(other) < Own(candidates[best])))
          best = static_cast<int>(c);
      }
      spare_seconds -= Own(candidates[best]) - now;
      foldings += candidates[best].order.num_foldings;
      (*chosen)[i] = best;
    }
    return foldings;
  }

  std::vector<TermChoice*> terms_;
  const PlannerOptions& options_;
};

// What the caller asks for in place of a choice.
absl::Status ChooseOrders(absl::Span<const std::string> orders,
                          absl::Span<TermChoice* const> terms) {
  if (orders.size() != terms.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(orders.size(), " orders given for ", terms.size(), " terms"));
  }
  for (size_t t = 0; t < terms.size(); ++t) {
    const std::vector<Candidate>& candidates = terms[t]->candidates;
    const auto found = std::find_if(candidates.begin(), candidates.end(), [&](const Candidate& c) {
      return c.rejected.empty() && c.order.expression == orders[t];
    });
    if (found == candidates.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("no candidate that may be chosen is \"", orders[t], "\""));
    }
    terms[t]->chosen = static_cast<int>(found - candidates.begin());
  }
  return absl::OkStatus();
}

bool IsOneCore(const FactoredMatrix& m, const MatrixChoice& choice) {
  return m.terms.size() == 1 && choice.terms[0].choice().order.is_dense &&
         m.input_transforms.empty() && m.output_transforms.empty() &&
         !choice.terms[0].choice().lowering.steps[0].gathers;
}

}  // namespace

std::string MatrixChoice::expression() const {
  std::string result;
  for (const TermChoice& term : terms)
    absl::StrAppend(&result, result.empty() ? "" : " + ", term.choice().order.expression);
  return result;
}

int64_t PackedStepBytes(const Term& term, const LoweredStep& step, DType weight_dtype) {
  return step.block_encoded ? PackedBytes(term.cores[step.cores[0]].encoding, step.n, step.k)
                            : PackedBytes(weight_dtype, step.n, step.k);
}

DType ActivationsOf(const LoweredStep& step, const PlannerOptions& options) {
  return step.integer_codes && options.int8_blocks ? DType::kI8 : options.compute;
}

absl::StatusOr<std::vector<MatrixChoice>> EnumerateCandidates(
    absl::Span<const FactoredMatrix> matrices, const PlannerOptions& options) {
  std::vector<MatrixChoice> choices(matrices.size());
  for (size_t i = 0; i < matrices.size(); ++i) {
    for (const Term& term : matrices[i].terms) {
      auto orders = EnumerateOrders(matrices[i], term);
      if (!orders.ok()) return orders.status();
      choices[i].terms.push_back(Candidates(matrices, i, term, *std::move(orders), options));
    }
  }
  return choices;
}

absl::Status ChooseCandidates(absl::Span<const FactoredMatrix> matrices,
                              const PlannerOptions& options, std::vector<MatrixChoice>* choices) {
  std::vector<TermChoice*> terms;
  for (size_t i = 0; i < matrices.size(); ++i) {
    for (size_t t = 0; t < matrices[i].terms.size(); ++t) {
      const Term& term = matrices[i].terms[t];
      terms.push_back(&(*choices)[i].terms[t]);
      bool any = false;
      for (Candidate& c : terms.back()->candidates) {
        if (c.lowering.steps.empty()) continue;
        c.rejected = c.extra_bytes > options.extra_weight_bytes ? BytesReason(term, c) : "";
        c.microseconds = Seconds(term, c.lowering, options, options.tokens) * 1e6;
        any |= c.rejected.empty();
      }
      if (!any) return NoCandidate(matrices[i], *terms.back());
    }
  }
  if (options.orders.empty()) {
    GroupSearch(std::move(terms), options).Run();
  } else if (auto status = ChooseOrders(options.orders, terms); !status.ok()) {
    return status;
  }
  for (size_t i = 0; i < matrices.size(); ++i)
    (*choices)[i].is_dense = IsOneCore(matrices[i], (*choices)[i]);
  return absl::OkStatus();
}

double ChoiceSeconds(absl::Span<const FactoredMatrix> matrices,
                     absl::Span<const MatrixChoice> choices, const PlannerOptions& options) {
  int steps = 0;
  double total = 0;
  for (size_t i = 0; i < matrices.size(); ++i) {
    for (size_t t = 0; t < matrices[i].terms.size(); ++t) {
      const Candidate& c = choices[i].terms[t].choice();
      steps = std::max(steps, c.num_steps);
      total += Seconds(matrices[i].terms[t], c.lowering, options, options.tokens) -
               c.num_steps * options.profile.step_seconds;
    }
  }
  return total + steps * options.profile.step_seconds;
}

absl::StatusOr<std::vector<MatrixChoice>> PlanGroup(absl::Span<const FactoredMatrix> matrices,
                                                    const PlannerOptions& options) {
  auto choices = EnumerateCandidates(matrices, options);
  if (!choices.ok()) return choices.status();
  if (auto status = ChooseCandidates(matrices, options, &*choices); !status.ok()) return status;
  return choices;
}

}  // namespace rankine
