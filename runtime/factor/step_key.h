// Which lowered steps hold the same numbers, where matrices of a group share cores (one stack of
// q, k and v): such a core is packed once, and a product that they all begin with runs once.
#pragma once

#include <string>

#include "absl/types/span.h"
#include "runtime/factor/factored_matrix.h"
#include "runtime/factor/lowering.h"

namespace rankine {

// True where another of the matrices reads the same ranges of the core's tensors.
bool IsShared(absl::Span<const FactoredMatrix> matrices, size_t matrix, const Core& core);

// Equal for steps whose W [n, k] is the same whichever matrix and term they are of. Of a step with
// one core; empty where cores are folded.
std::string StepKey(const FactoredMatrix& matrix, const Term& term, const LoweredStep& step);

}  // namespace rankine
