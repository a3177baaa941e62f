#include "runtime/factor/group_plan.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace rankine {
namespace {

// Sizes of other forms that are tried for a group; beyond them only every few.
constexpr size_t kMaxLimits = 16;

class PlanSearch {
 public:
  PlanSearch(absl::Span<const FactoredMatrix> matrices, const PlannerOptions& options,
             PlanMode mode, std::vector<MatrixChoice> choices)
      : matrices_(matrices), options_(options), mode_(mode), choices_(std::move(choices)) {}

  absl::StatusOr<std::vector<GroupPlan>> Run();

 private:
  // One choice for all terms.
  struct Form {
    std::vector<std::string> orders;
    std::vector<int64_t> bytes;  // of each term, as packed
    int64_t extra_bytes = 0;
    int64_t index_bytes = 0;  // of gathers
    std::array<double, kNumBuckets> seconds{};
  };

  // The best form at a bucket within a limit of extra bytes; an index into forms_.
  absl::StatusOr<int> FormAt(size_t bucket, int64_t limit);
  std::vector<int64_t> Limits() const;
  double Cost(const std::array<double, kNumBuckets>& seconds) const;
  // Index lists beyond the fewest of the forms that need no more bytes than the first.
  int64_t ExtraIndexBytes(int64_t bytes) const;
  GroupPlan Single(const Form& form) const;
  GroupPlan Pair(const Form& first, const Form& second) const;

  absl::Span<const FactoredMatrix> matrices_;
  PlannerOptions options_;
  const PlanMode mode_;
  std::vector<MatrixChoice> choices_;
  std::vector<Form> forms_;
  int64_t base_index_bytes_ = 0;
};

std::vector<int64_t> PlanSearch::Limits() const {
  std::set<int64_t> sizes;
  for (const MatrixChoice& choice : choices_) {
    for (const TermChoice& term : choice.terms) {
      for (const Candidate& c : term.candidates) {
        if (!c.lowering.steps.empty() && c.extra_bytes > 0) sizes.insert(c.extra_bytes);
      }
    }
  }
  std::vector<int64_t> limits = {0};
  const size_t step = sizes.size() / kMaxLimits + 1;
  size_t index = 0;
  for (const int64_t size : sizes) {
    if (index++ % step == 0) limits.push_back(size);
  }
  return limits;
}

absl::StatusOr<int> PlanSearch::FormAt(size_t bucket, int64_t limit) {
  PlannerOptions options = options_;
  options.tokens = kTokenBuckets[bucket];
  options.extra_weight_bytes = limit;
  if (auto status = ChooseCandidates(matrices_, options, &choices_); !status.ok()) return status;
  Form form;
  for (const MatrixChoice& choice : choices_) {
    for (const TermChoice& term : choice.terms) {
      form.orders.push_back(term.choice().order.expression);
      form.bytes.push_back(term.choice().weight_bytes);
      form.extra_bytes += term.choice().extra_bytes;
      form.index_bytes += term.choice().lowering.index_bytes();
    }
  }
  for (size_t i = 0; i < forms_.size(); ++i) {
    if (forms_[i].orders == form.orders) return static_cast<int>(i);
  }
  for (size_t b = 0; b < kNumBuckets; ++b) {
    options.tokens = kTokenBuckets[b];
    form.seconds[b] = ChoiceSeconds(matrices_, choices_, options);
  }
  forms_.push_back(std::move(form));
  return static_cast<int>(forms_.size()) - 1;
}

double PlanSearch::Cost(const std::array<double, kNumBuckets>& seconds) const {
  if (mode_ == PlanMode::kStable) return seconds[0] * 1e6;
  double total = 0;
  for (size_t b = 0; b < kNumBuckets; ++b)
    total += seconds[b] / static_cast<double>(kTokenBuckets[b]);
  return total * 1e6;
}

int64_t PlanSearch::ExtraIndexBytes(int64_t bytes) const {
  return std::max<int64_t>(0, bytes - base_index_bytes_);
}

GroupPlan PlanSearch::Single(const Form& form) const {
  return {.forms = {form.orders},
          .extra_bytes = form.extra_bytes + ExtraIndexBytes(form.index_bytes),
          .microseconds = Cost(form.seconds)};
}

GroupPlan PlanSearch::Pair(const Form& first, const Form& second) const {
  GroupPlan plan{
      .forms = {first.orders, second.orders},
      .extra_bytes = first.extra_bytes + ExtraIndexBytes(first.index_bytes + second.index_bytes)};
  // Cores that both forms have alike are held once.
  for (size_t t = 0; t < second.orders.size(); ++t) {
    if (first.orders[t] != second.orders[t]) plan.extra_bytes += second.bytes[t];
  }
  std::array<double, kNumBuckets> seconds = first.seconds;
  for (size_t b = 1; b < kNumBuckets; ++b) {
    if (second.seconds[b] >= first.seconds[b]) continue;
    plan.form_of_bucket[b] = 1;
    seconds[b] = second.seconds[b];
  }
  plan.microseconds = Cost(seconds);
  return plan;
}

// By growing memory and falling time, each step worth less a byte than the one before: what a
// greedy choice may take one after the other.
std::vector<GroupPlan> Hull(std::vector<GroupPlan> plans) {
  std::stable_sort(plans.begin(), plans.end(), [](const GroupPlan& a, const GroupPlan& b) {
    return a.extra_bytes != b.extra_bytes ? a.extra_bytes < b.extra_bytes
                                          : a.microseconds < b.microseconds;
  });
  std::vector<GroupPlan> hull;
  const auto rate = [](const GroupPlan& a, const GroupPlan& b) {
    return (a.microseconds - b.microseconds) / static_cast<double>(b.extra_bytes - a.extra_bytes);
  };
  for (GroupPlan& plan : plans) {
    if (!hull.empty() && plan.microseconds >= hull.back().microseconds) continue;
    while (hull.size() >= 2 && rate(hull.back(), plan) >= rate(hull[hull.size() - 2], hull.back()))
      hull.pop_back();
    hull.push_back(std::move(plan));
  }
  return hull;
}

absl::StatusOr<std::vector<GroupPlan>> PlanSearch::Run() {
  const size_t buckets = mode_ == PlanMode::kStable ? 1 : kNumBuckets;
  std::vector<GroupPlan> plans;
  std::string needs;
  int base = -1;
  absl::Status last;
  for (const int64_t limit : Limits()) {
    if (base >= 0 && limit > options_.extra_weight_bytes) break;
    for (size_t b = 0; b < buckets; ++b) {
      const auto form = FormAt(b, limit);
      if (!form.ok()) {
        last = form.status();
        break;
      }
      if (base < 0) {
        base = *form;
        needs = std::string(last.message());
      }
    }
  }
  if (base < 0) return last;
  base_index_bytes_ = forms_[base].index_bytes;
  for (const Form& form : forms_) {
    if (form.extra_bytes <= forms_[base].extra_bytes)
      base_index_bytes_ = std::min(base_index_bytes_, form.index_bytes);
  }
  for (const Form& form : forms_) {
    plans.push_back(Single(form));
    if (mode_ == PlanMode::kStable) continue;
    for (const Form& other : forms_) {
      if (&other != &form) plans.push_back(Pair(form, other));
    }
  }
  const int64_t limit = std::max(options_.extra_weight_bytes, forms_[base].extra_bytes);
  std::erase_if(plans, [&](const GroupPlan& plan) { return plan.extra_bytes > limit; });
  std::vector<GroupPlan> hull = Hull(std::move(plans));
  hull[0].needs = needs;
  return hull;
}

}  // namespace

size_t BucketOf(int64_t num_tokens) {
  size_t bucket = 0;
  while (bucket + 1 < kNumBuckets && kTokenBuckets[bucket] < num_tokens) ++bucket;
  return bucket;
}

absl::StatusOr<std::vector<GroupPlan>> GroupPlans(absl::Span<const FactoredMatrix> matrices,
                                                  const PlannerOptions& options, PlanMode mode) {
  auto choices = EnumerateCandidates(matrices, options);
  if (!choices.ok()) return choices.status();
  return PlanSearch(matrices, options, mode, *std::move(choices)).Run();
}

absl::StatusOr<std::vector<GroupPlan>> SpendExtraBytes(
    absl::Span<const std::vector<GroupPlan>> plans_of_groups, int64_t budget) {
  struct Step {
    size_t group = 0, plan = 0;  // to that plan
    int64_t bytes = 0;
    double rate = 0;
  };
  std::vector<size_t> chosen(plans_of_groups.size(), 0);
  std::vector<Step> steps;
  for (size_t g = 0; g < plans_of_groups.size(); ++g) {
    const std::vector<GroupPlan>& plans = plans_of_groups[g];
    if (plans[0].extra_bytes > budget) return absl::UnimplementedError(plans[0].needs);
    budget -= plans[0].extra_bytes;
    for (size_t p = 1; p < plans.size(); ++p) {
      const int64_t bytes = plans[p].extra_bytes - plans[p - 1].extra_bytes;
      steps.push_back(
          {g, p, bytes,
           (plans[p - 1].microseconds - plans[p].microseconds) / static_cast<double>(bytes)});
    }
  }
  std::stable_sort(steps.begin(), steps.end(),
                   [](const Step& a, const Step& b) { return a.rate > b.rate; });
  for (const Step& step : steps) {
    if (chosen[step.group] + 1 != step.plan || step.bytes > budget) continue;
    chosen[step.group] = step.plan;
    budget -= step.bytes;
  }
  std::vector<GroupPlan> result;
  for (size_t g = 0; g < plans_of_groups.size(); ++g)
    result.push_back(plans_of_groups[g][chosen[g]]);
  return result;
}

}  // namespace rankine
