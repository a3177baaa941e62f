#include "runtime/factor/planner.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace rankine {
namespace {

constexpr double kTie = 1.02;

bool AllFloat(const Term& term) {
  return std::all_of(term.cores.begin(), term.cores.end(),
                     [](const Core& core) { return core.encoding.IsFloat(); });
}

// True for U[o,r] V[r,i] and U[o,r] S[r] V[r,i], stored in that order.
bool IsTwoFactors(const FactoredMatrix& m, const Term& term) {
  const size_t n = term.cores.size();
  if (n != 2 && n != 3) return false;
  if (m.output_legs.size() != 1 || m.input_legs.size() != 1) return false;
  const Core &u = term.cores.front(), &v = term.cores.back();
  if (u.legs.size() != 2 || v.legs.size() != 2) return false;
  const std::string& r = u.legs[1].name;
  if (u.legs[0].name != m.output_legs[0].name || v.legs[0].name != r ||
      v.legs[1].name != m.input_legs[0].name) {
    return false;
  }
  return n == 2 || (term.cores[1].legs.size() == 1 && term.cores[1].legs[0].name == r);
}

// True when each core is all of its tensor: the loader reads whole rows.
bool WholeRanges(const FactoredMatrix& m) {
  for (const Core& core : m.terms[0].cores) {
    for (const LegRange& leg : core.legs) {
      if (leg.offset != 0) return false;
      if (leg.stored_extent != 0 && leg.stored_extent != leg.extent) return false;
    }
  }
  return true;
}

// True for W[o,i]: rows of the tensor are rows of the matrix.
bool IsOutputByInput(const FactoredMatrix& m, const Core& core) {
  return m.output_legs.size() == 1 && m.input_legs.size() == 1 && core.legs.size() == 2 &&
         core.legs[0].name == m.output_legs[0].name && core.legs[1].name == m.input_legs[0].name;
}

std::string LegNames(const Core& core) {
  return absl::StrJoin(core.legs, ", ", [](std::string* out, const LegRange& leg) {
    absl::StrAppend(out, absl::CHexEscape(leg.name));
  });
}

// What keeps a whole matrix from running, whatever the order.
std::string Unsupported(const FactoredMatrix& m) {
  if (!m.input_transforms.empty() || !m.output_transforms.empty())
    return "input or output transforms";
  if (m.terms.size() != 1) return absl::StrCat("a sum of ", m.terms.size(), " terms");
  if (!AllFloat(m.terms[0])) return "an encoding other than f32, f16 and bf16";
  if (!WholeRanges(m)) return "cores shared by ranges of a leg";
  const std::vector<Core>& cores = m.terms[0].cores;
  if (cores.size() == 1) {
    return IsOutputByInput(m, cores[0])
               ? ""
               : absl::StrCat("a dense core with legs [", LegNames(cores[0]),
                              "] other than [output, input]");
  }
  if (IsTwoFactors(m, m.terms[0])) return "";
  return absl::StrCat("a network of ", cores.size(), " cores other than U S V");
}

ExecutableForm FormOf(const FactoredMatrix& m, const ContractionOrder& order) {
  if (order.is_dense) return ExecutableForm::kDense;
  return order.num_foldings == 0 && IsTwoFactors(m, m.terms[0]) && order.num_products() == 2
             ? ExecutableForm::kTwoFactors
             : ExecutableForm::kNone;
}

double Seconds(const ContractionOrder& order, const PlannerOptions& options) {
  double total = 0;
  for (const ContractionStep& step : order.steps) {
    if (step.is_scale) continue;
    total += options.profile.step_seconds +
             std::max(static_cast<double>(step.core_bytes) / options.profile.read_bytes_per_second,
                      2.0 * static_cast<double>(step.multiply_adds_per_token) /
                          options.profile.flops_per_second(options.compute));
  }
  return total;
}

int64_t StoredBytes(const FactoredMatrix& m) {
  int64_t total = 0;
  for (const Core& core : m.terms[0].cores) {
    int64_t elements = 1;
    for (const LegRange& leg : core.legs) elements *= leg.extent;
    total += elements * static_cast<int64_t>(SizeOf(core.encoding.dtype));
  }
  return total;
}

absl::StatusOr<MatrixChoice> Candidates(const FactoredMatrix& m, const PlannerOptions& options) {
  if (const std::string why = Unsupported(m); !why.empty()) {
    return absl::UnimplementedError(absl::StrCat(m.name, ": this version can't execute ", why,
                                                 "; it runs dense and U S V in f32, f16 and bf16"));
  }
  auto orders = EnumerateOrders(m, m.terms[0]);
  if (!orders.ok()) return orders.status();
  MatrixChoice result;
  const int64_t limit = StoredBytes(m) + options.extra_weight_bytes;
  for (ContractionOrder& order : *orders) {
    Candidate candidate{.decode_microseconds = Seconds(order, options) * 1e6};
    candidate.form = FormOf(m, order);
    if (candidate.form == ExecutableForm::kNone) {
      candidate.rejected = "no kernel for this order";
    } else if (order.num_foldings > 0 && order.weight_bytes() > limit) {
      candidate.rejected = absl::StrCat("needs ", order.weight_bytes() - limit,
                                        " bytes more than stored; allow with --extra-weight-bytes");
    }
    candidate.order = std::move(order);
    result.candidates.push_back(std::move(candidate));
  }
  return result;
}

// Regions and barriers are shared by the matrices of a group, so the group is priced as a whole:
// bytes and operations add up, steps count once. With the few executable candidates a matrix has,
// all combinations are tried.
class GroupSearch {
 public:
  GroupSearch(std::vector<MatrixChoice>& choices, const PlannerOptions& options)
      : choices_(choices), options_(options), current_(choices.size()) {}

  void Run() {
    Visit(0, 0, 0, 0);
    best_foldings_ = std::numeric_limits<int>::max();
    choosing_ = true;
    Visit(0, 0, 0, 0);
  }

 private:
  void Visit(size_t index, double seconds, int depth, int foldings) {
    if (index == choices_.size()) {
      Leaf(seconds + depth * options_.profile.step_seconds, foldings);
      return;
    }
    const std::vector<Candidate>& candidates = choices_[index].candidates;
    for (size_t c = 0; c < candidates.size(); ++c) {
      if (!candidates[c].rejected.empty()) continue;
      const int products = candidates[c].order.num_products();
      current_[index] = static_cast<int>(c);
      const double own =
          candidates[c].decode_microseconds * 1e-6 - products * options_.profile.step_seconds;
      Visit(index + 1, seconds + own, std::max(depth, products),
            foldings + candidates[c].order.num_foldings);
    }
  }

  void Leaf(double seconds, int foldings) {
    if (!choosing_) {
      best_seconds_ = std::min(best_seconds_, seconds);
    } else if (seconds <= best_seconds_ * kTie && foldings < best_foldings_) {
      best_foldings_ = foldings;
      for (size_t i = 0; i < choices_.size(); ++i) choices_[i].chosen = current_[i];
    }
  }

  std::vector<MatrixChoice>& choices_;
  const PlannerOptions& options_;
  std::vector<int> current_;
  bool choosing_ = false;
  double best_seconds_ = std::numeric_limits<double>::infinity();
  int best_foldings_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<MatrixChoice>> PlanGroup(absl::Span<const FactoredMatrix> matrices,
                                                    const PlannerOptions& options) {
  std::vector<MatrixChoice> choices;
  for (const FactoredMatrix& m : matrices) {
    auto choice = Candidates(m, options);
    if (!choice.ok()) return choice.status();
    choices.push_back(*std::move(choice));
  }
  GroupSearch(choices, options).Run();
  return choices;
}

}  // namespace rankine
