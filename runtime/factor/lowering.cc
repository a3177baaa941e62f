#include "runtime/factor/lowering.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/tensor_view.h"

namespace rankine {
namespace {

using Legs = std::vector<int>;

Legs Join(const Legs& a, const Legs& b, const Legs& c = {}) {
  Legs result = a;
  result.insert(result.end(), b.begin(), b.end());
  result.insert(result.end(), c.begin(), c.end());
  return result;
}

Legs InMask(const Legs& legs, uint32_t mask, bool inside) {
  Legs result;
  for (const int leg : legs) {
    if ((mask >> leg & 1) == (inside ? 1u : 0u)) result.push_back(leg);
  }
  return result;
}

// The legs of a core as stored.
Legs StoredLegs(const TermLegs& legs, const Core& core) {
  Legs result;
  for (const LegRange& leg : core.legs) {
    const auto it = std::find(legs.names.begin(), legs.names.end(), leg.name);
    result.push_back(static_cast<int>(it - legs.names.begin()));
  }
  return result;
}

bool IsWhole(const LegRange& leg) {
  return leg.offset == 0 && (leg.stored_extent == 0 || leg.stored_extent == leg.extent);
}

// A step of an order with the scales that follow it.
struct Stage {
  const ContractionStep* step;
  std::vector<int> scales;
};

class Search {
 public:
  Search(const TermLegs& legs, const Term& term, const std::vector<Stage>& stages)
      : legs_(legs), term_(term), stages_(stages) {}

  bool Run(bool may_decode, bool may_gather, Lowering* result) {
    may_decode_ = may_decode;
    may_gather_ = may_gather;
    current_ = {};
    if (!Visit(0, legs_.input)) return false;
    *result = current_;
    return true;
  }

 private:
  bool Visit(size_t index, const Legs& layout);
  bool Finish(const Legs& layout);
  bool TryBlocks(const ContractionStep& step, LoweredStep* lowered) const;
  bool TryLayouts(size_t index, const LoweredStep& base);
  bool TryLayout(size_t index, LoweredStep step, const Legs& added, size_t front);

  const TermLegs& legs_;
  const Term& term_;
  const std::vector<Stage>& stages_;
  bool may_decode_ = false;
  bool may_gather_ = false;
  Lowering current_;
};

// Whether a block-encoded core can be used as it lies: its last legs are the summed ones, in that
// order; more than one only where each row of the last is whole groups.
bool Search::TryBlocks(const ContractionStep& step, LoweredStep* lowered) const {
  const Core& core = term_.cores[step.cores[0]];
  const Legs stored = StoredLegs(legs_, core);
  const Legs& summed = lowered->summed_legs;
  if (summed.size() > stored.size() ||
      !std::equal(summed.rbegin(), summed.rend(), stored.rbegin())) {
    return false;
  }
  if (summed.size() == 1) return true;
  const Encoding& e = core.encoding;
  const int64_t last = core.legs.back().extent;
  if (!IsWhole(core.legs.back())) return false;
  if (e.kind == EncodingKind::kE8P) return last % 8 == 0;
  if (e.kind == EncodingKind::kAffine &&
      (e.HasTwoLevelScales() || e.offset == OffsetKind::kTwoLevel))
    return last % kSuperBlockColumns == 0;
  return e.group != 0 && last % e.group == 0;
}

bool Search::TryLayout(size_t index, LoweredStep step, const Legs& added, size_t front) {
  const auto middle = added.begin() + static_cast<std::ptrdiff_t>(front);
  step.front_legs.assign(added.begin(), middle);
  step.back_legs.assign(middle, added.end());
  step.n = legs_.Size(added) - step.identity_rows;
  step.run = step.row_legs.empty() ? 0 : legs_.Size(step.back_legs);
  const Legs result = Join(step.front_legs, step.row_legs, step.back_legs);
  current_.steps.push_back(std::move(step));
  if (Visit(index + 1, result)) return true;
  current_.steps.pop_back();
  return false;
}

bool Search::TryLayouts(size_t index, const LoweredStep& base) {
  Legs added;
  for (int leg = 0; leg < static_cast<int>(legs_.names.size()); ++leg) {
    if (stages_[index].step->added >> leg & 1) added.push_back(leg);
  }
  // Without rows front and back are the same thing. Most legs behind first: the longer the run, the
  // fewer pieces the kernels store; with none behind, they transpose.
  const size_t most = base.row_legs.empty() ? 0 : added.size();
  for (size_t back = most + 1; back-- > 0;) {
    do {  // added is sorted: all permutations
      if (TryLayout(index, base, added, added.size() - back)) return true;
    } while (std::next_permutation(added.begin(), added.end()));
  }
  return false;
}

bool Search::Finish(const Legs& layout) {
  if (layout == legs_.output) return true;
  if (!may_gather_) return false;
  current_.gathers_output = true;
  current_.output_from = layout;
  return true;
}

bool Search::Visit(size_t index, const Legs& layout) {
  if (index == stages_.size()) return Finish(layout);
  const ContractionStep& step = *stages_[index].step;
  LoweredStep base{.cores = step.cores, .scales = stages_[index].scales};
  base.row_legs = InMask(layout, step.summed, false);
  base.summed_legs = InMask(layout, step.summed, true);
  // Rows of the input follow each other only where its padded stride is exact.
  const bool exact =
      index > 0 || base.row_legs.empty() || legs_.Size(legs_.input) % kColumnPad == 0;
  const bool innermost = exact && Join(base.row_legs, base.summed_legs) == layout;
  if (!innermost && !may_gather_) return false;
  const Core& core = term_.cores[step.cores[0]];
  const bool blocks = step.cores.size() == 1 && !core.encoding.IsFloat();
  const bool folds_blocks = step.cores.size() > 1 &&
                            std::any_of(step.cores.begin(), step.cores.end(),
                                        [&](int c) { return !term_.cores[c].encoding.IsFloat(); });
  if (!innermost) {
    base.gathers = true;
    base.gather_from = layout;
    if (blocks) base.summed_legs = InMask(StoredLegs(legs_, core), step.summed, true);
  }
  base.rows = legs_.Size(base.row_legs);
  base.k = legs_.Size(base.summed_legs);
  base.block_encoded = blocks && TryBlocks(step, &base);
  base.identity_rows = step.identity_rows;
  base.integer_codes = base.block_encoded && core.encoding.kind != EncodingKind::kNf4;
  if (((blocks && !base.block_encoded) || folds_blocks) && !may_decode_) return false;
  return TryLayouts(index, base);
}

// A core with a leading identity hands its x on: that is what the product before it wrote, alone,
// and the result is the term's.
bool CanCopyInput(const TermLegs& legs, const ContractionOrder& order, const ContractionStep& step,
                  std::string* reason) {
  if (&step == &order.steps.front()) {
    *reason = "an identity over the input, which no product has written";
    return false;
  }
  if (&step != &order.steps.back() || legs.Size(step.summed) != step.identity_rows ||
      legs.Size(step.added) != legs.Size(MaskOf(legs.output))) {
    *reason = "an identity beside other legs";
    return false;
  }
  return true;
}

bool MakeStages(const TermLegs& legs, const ContractionOrder& order, std::vector<Stage>* stages,
                std::string* reason) {
  for (const ContractionStep& step : order.steps) {
    if (step.is_scale) {
      if (stages->empty()) {
        *reason = "scales the input, which no product has written";
        return false;
      }
      if (step.cores.size() > 1 || (step.core_legs & ~stages->back().step->added) != 0) {
        *reason = "scales legs that the product before it does not write";
        return false;
      }
      stages->back().scales.push_back(step.cores[0]);
      continue;
    }
    if (step.kept != 0) {
      *reason = absl::StrCat("leg ", absl::CHexEscape(legs.names[__builtin_ctz(step.kept)]),
                             " stays on both sides of a product");
      return false;
    }
    if (step.summed == 0) {
      *reason = "an outer product with the activations";
      return false;
    }
    if (step.identity_rows != 0 && !CanCopyInput(legs, order, step, reason)) return false;
    stages->push_back({&step, {}});
  }
  return true;
}

}  // namespace

int Lowering::num_gathers() const {
  int count = gathers_output ? 1 : 0;
  for (const LoweredStep& step : steps) count += step.gathers ? 1 : 0;
  return count;
}

int64_t GatheredRowColumns(int64_t rows, int64_t columns) {
  while (rows > 1 && rows * columns % kColumnPad != 0) ++columns;
  return columns;
}

int64_t Lowering::index_bytes() const {
  int64_t count = gathers_output ? steps.back().out_elements() : 0;
  for (const LoweredStep& step : steps) {
    if (step.gathers) count += step.rows * GatheredRowColumns(step.rows, step.k);
  }
  return count * static_cast<int64_t>(sizeof(int32_t));
}

bool Lower(const TermLegs& legs, const Term& term, const ContractionOrder& order, Lowering* result,
           std::string* reason) {
  std::vector<Stage> stages;
  if (!MakeStages(legs, order, &stages, reason)) return false;
  Search search(legs, term, stages);
  // Best: blocks as they lie, no gather; a gather costs less than decoding a core to floats.
  for (const bool decode : {false, true}) {
    for (const bool gather : {false, true}) {
      if (!search.Run(decode, gather, result)) continue;
      std::set<int> decoded;
      for (const LoweredStep& step : result->steps) {
        for (const int core : step.cores) {
          if (!step.block_encoded && !term.cores[core].encoding.IsFloat()) decoded.insert(core);
        }
      }
      result->decoded.assign(decoded.begin(), decoded.end());
      return true;
    }
  }
  RK_CHECK(!"with gathers and floats every order of products can be laid out");
  return false;
}

}  // namespace rankine
