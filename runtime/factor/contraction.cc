#include "runtime/factor/contraction.h"

#include <algorithm>
#include <bit>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"

namespace rankine {
namespace {

constexpr size_t kMaxCores = 6;
constexpr size_t kMaxLegs = 32;

// Bits per element, in sixteenths so that all encodings are whole: codes, and the scales and
// offsets of a group.
int64_t SixteenthBytes(const Encoding& e) {
  if (e.IsFloat()) return 16 * static_cast<int64_t>(SizeOf(e.dtype));
  if (e.kind == EncodingKind::kE8P) return 4;
  const int64_t bits = e.kind == EncodingKind::kNf4 ? 4 : e.bits;
  const int64_t scale = e.scale == ScaleKind::kF32 ? 4 : e.HasTwoLevelScales() ? 1 : 2;
  const int64_t per_group = scale * (e.HasOffsets() ? 2 : 1);
  return 2 * bits + (e.group == 0 ? 0 : 16 * per_group / e.group);
}

class Enumerator {
 public:
  Enumerator(const FactoredMatrix& matrix, const Term& term)
      : term_(term), legs_(LegsOf(matrix, term)), output_(MaskOf(legs_.output)) {}

  std::vector<ContractionOrder> Run() {
    all_ = (1u << term_.cores.size()) - 1;
    Visit(all_, MaskOf(legs_.input), {.expression = "x"});
    return std::move(orders_);
  }

 private:
  // Legs of all cores in `cores`.
  uint32_t Union(uint32_t cores) const {
    uint32_t result = 0;
    for (size_t i = 0; i < legs_.cores.size(); ++i) {
      if (cores >> i & 1) result |= legs_.cores[i];
    }
    return result;
  }
  bool Connected(uint32_t cores) const;
  void Step(uint32_t fold, uint32_t rest, uint32_t x_legs, const ContractionOrder& order);
  void Visit(uint32_t left, uint32_t x_legs, const ContractionOrder& order);

  const Term& term_;
  const TermLegs legs_;
  const uint32_t output_;
  uint32_t all_ = 0;
  std::vector<ContractionOrder> orders_;
};

bool Enumerator::Connected(uint32_t cores) const {
  uint32_t reached = cores & -cores;
  for (bool grown = true; grown;) {
    grown = false;
    for (size_t i = 0; i < legs_.cores.size(); ++i) {
      const uint32_t bit = 1u << i;
      if ((cores & bit) != 0 && (reached & bit) == 0 && (Union(reached) & legs_.cores[i]) != 0) {
        reached |= bit;
        grown = true;
      }
    }
  }
  return reached == cores;
}

void Enumerator::Step(uint32_t fold, uint32_t rest, uint32_t x_legs,
                      const ContractionOrder& order) {
  const uint32_t needed = output_ | Union(rest);
  ContractionStep step;
  step.core_legs = Union(fold) & (needed | x_legs);
  const uint32_t shared = step.core_legs & x_legs;
  step.summed = shared & ~needed;
  step.kept = shared & needed;
  step.added = step.core_legs & ~x_legs;
  step.is_scale = step.summed == 0 && step.added == 0;
  step.core_elements = legs_.Size(step.core_legs);
  step.multiply_adds_per_token = legs_.Size(step.core_legs | x_legs);
  if (const Core& core = term_.cores[std::countr_zero(fold)]; std::has_single_bit(fold)) {
    step.identity_rows = core.identity_rows();
    step.core_elements = core.NumParameters();
    step.multiply_adds_per_token -=
        step.identity_rows * step.identity_rows * legs_.Size(x_legs & ~step.core_legs);
  }
  std::string names;
  int64_t sixteenths = 0, largest = 0;
  for (size_t i = 0; i < term_.cores.size(); ++i) {
    if ((fold >> i & 1) == 0) continue;
    step.cores.push_back(static_cast<int>(i));
    absl::StrAppend(&names, names.empty() ? "" : " ", absl::CHexEscape(term_.cores[i].name));
    // The encoding of a folding is that of its largest core, or the f32 that holds a block-encoded
    // one.
    if (const int64_t elements = legs_.Size(legs_.cores[i]); elements > largest) {
      largest = elements;
      sixteenths = SixteenthBytes(term_.cores[i].encoding);
    }
  }
  if (step.cores.size() > 1) names = absl::StrCat("[", names, "]");
  step.core_bytes = (step.core_elements * sixteenths + 15) / 16;
  ContractionOrder next = order;
  next.expression = order.steps.empty() ? absl::StrCat("x ", names)
                                        : absl::StrCat("(", order.expression, ") ", names);
  next.num_foldings += static_cast<int>(step.cores.size()) - 1;
  const uint32_t result = (x_legs | step.core_legs) & ~step.summed;
  next.steps.push_back(std::move(step));
  if (rest == 0) {
    next.is_dense = next.steps.size() == 1;
    orders_.push_back(std::move(next));
  } else {
    Visit(rest, result, next);
  }
}

void Enumerator::Visit(uint32_t left, uint32_t x_legs, const ContractionOrder& order) {
  // Single cores from the input side (the last) first, so that the plain order comes first.
  for (int i = static_cast<int>(term_.cores.size()) - 1; i >= 0; --i) {
    if (left >> i & 1) Step(1u << i, left & ~(1u << i), x_legs, order);
  }
  for (uint32_t fold = left; fold != 0; fold = (fold - 1) & left) {
    if (std::popcount(fold) > 1 && (fold == all_ || Connected(fold)))
      Step(fold, left & ~fold, x_legs, order);
  }
}

}  // namespace

int64_t TermLegs::Size(uint32_t mask) const {
  int64_t size = 1;
  for (size_t i = 0; i < extents.size(); ++i) {
    if (mask >> i & 1) size *= extents[i];
  }
  return size;
}

int64_t TermLegs::Size(const std::vector<int>& legs) const { return Size(MaskOf(legs)); }

uint32_t MaskOf(const std::vector<int>& legs) {
  uint32_t mask = 0;
  for (const int leg : legs) mask |= 1u << leg;
  return mask;
}

TermLegs LegsOf(const FactoredMatrix& matrix, const Term& term) {
  TermLegs legs;
  auto number = [&](const std::string& name, int64_t extent) {
    const auto it = std::find(legs.names.begin(), legs.names.end(), name);
    if (it != legs.names.end()) return static_cast<int>(it - legs.names.begin());
    RK_CHECK(legs.names.size() < kMaxLegs);
    legs.names.push_back(name);
    legs.extents.push_back(extent);
    return static_cast<int>(legs.names.size()) - 1;
  };
  for (const OuterLeg& leg : matrix.output_legs)
    legs.output.push_back(number(leg.name, leg.extent));
  for (const OuterLeg& leg : matrix.input_legs) legs.input.push_back(number(leg.name, leg.extent));
  for (const Core& core : term.cores) {
    uint32_t mask = 0;
    for (const LegRange& leg : core.legs) mask |= 1u << number(leg.name, leg.extent);
    legs.cores.push_back(mask);
  }
  return legs;
}

int64_t ContractionOrder::weight_bytes() const {
  int64_t total = 0;
  for (const ContractionStep& step : steps) total += step.core_bytes;
  return total;
}

int64_t ContractionOrder::multiply_adds_per_token() const {
  int64_t total = 0;
  for (const ContractionStep& step : steps) total += step.multiply_adds_per_token;
  return total;
}

int ContractionOrder::num_products() const {
  return static_cast<int>(std::count_if(steps.begin(), steps.end(),
                                        [](const ContractionStep& s) { return !s.is_scale; }));
}

absl::StatusOr<std::vector<ContractionOrder>> EnumerateOrders(const FactoredMatrix& matrix,
                                                              const Term& term) {
  if (term.cores.size() > kMaxCores) {
    return absl::UnimplementedError(absl::StrCat(matrix.name, ": a term of ", term.cores.size(),
                                                 " cores is not supported; at most ", kMaxCores));
  }
  RK_CHECK(!term.cores.empty());
  std::set<std::string> legs;
  for (const OuterLeg& leg : matrix.output_legs) legs.insert(leg.name);
  for (const OuterLeg& leg : matrix.input_legs) legs.insert(leg.name);
  for (const Core& core : term.cores) {
    for (const LegRange& leg : core.legs) legs.insert(leg.name);
  }
  if (legs.size() > kMaxLegs) {
    return absl::UnimplementedError(
        absl::StrCat(matrix.name, ": a term of more than ", kMaxLegs, " legs is not supported"));
  }
  return Enumerator(matrix, term).Run();
}

}  // namespace rankine
