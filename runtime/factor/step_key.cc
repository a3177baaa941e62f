#include "runtime/factor/step_key.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"

namespace rankine {
namespace {

// The tensors and what is read of them.
std::string CoreKey(const Core& core) {
  std::string key = core.leading_identity ? "identity" : "";
  for (const CoreTensor& t : core.tensors) absl::StrAppend(&key, "\n", t.role, "\n", t.tensor);
  for (const LegRange& leg : core.legs) absl::StrAppend(&key, "\n", leg.offset, " ", leg.extent);
  return key;
}

}  // namespace

bool IsShared(absl::Span<const FactoredMatrix> matrices, size_t matrix, const Core& core) {
  const std::string key = CoreKey(core);
  for (size_t i = 0; i < matrices.size(); ++i) {
    if (i == matrix) continue;
    for (const Term& term : matrices[i].terms) {
      for (const Core& other : term.cores) {
        if (CoreKey(other) == key) return true;
      }
    }
  }
  return false;
}

std::string StepKey(const FactoredMatrix& matrix, const Term& term, const LoweredStep& step) {
  if (step.cores.size() != 1) return "";
  const Core& core = term.cores[step.cores[0]];
  const TermLegs legs = LegsOf(matrix, term);
  std::string key = absl::StrCat(CoreKey(core), "\n", step.block_encoded);
  // Legs by their places on the core: matrices call them differently.
  for (const auto* list : {&step.front_legs, &step.back_legs, &step.summed_legs}) {
    absl::StrAppend(&key, ":");
    for (const int leg : *list) {
      const auto place = std::find_if(core.legs.begin(), core.legs.end(),
                                      [&](const LegRange& l) { return l.name == legs.names[leg]; });
      absl::StrAppend(&key, place - core.legs.begin(), ",");
    }
  }
  return key;
}

}  // namespace rankine
