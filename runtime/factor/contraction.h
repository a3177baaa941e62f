// All ways to contract one term of a FactoredMatrix with the activations x: x meets the cores one
// after the other, or several at once that were *folded* into one at load, whose result replaces
// them in memory. Folding all cores of a term is "materialise dense". How a set of cores is folded
// changes no result that is kept (it happens in float64), so an order is a sequence of sets of
// cores. The networks are tiny (at most six cores): the search is exhaustive.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/factor/factored_matrix.h"

namespace rankine {

// The legs of a term, numbered; sets of legs are bit masks.
struct TermLegs {
  std::vector<std::string> names;
  std::vector<int64_t> extents;
  std::vector<int> input, output;  // of the matrix, slowest first
  std::vector<uint32_t> cores;     // legs of each core

  int64_t Size(uint32_t legs) const;
  int64_t Size(const std::vector<int>& legs) const;
};

uint32_t MaskOf(const std::vector<int>& legs);
// Requires a validated matrix with at most 32 legs.
TermLegs LegsOf(const FactoredMatrix& matrix, const Term& term);

// One step at run time: x-tensor times a (possibly folded) core.
struct ContractionStep {
  std::vector<int> cores;  // indices into the term's cores, ascending; several: folded at load
  uint32_t core_legs = 0;
  uint32_t summed = 0;  // legs that the step sums
  uint32_t kept = 0;    // legs of both x-tensor and core that later steps or the output need
  uint32_t added = 0;   // legs of the core that the result gains
  // Of a core with a leading identity, alone in its step: slices of the result that are x itself.
  int64_t identity_rows = 0;
  bool is_scale = false;  // only kept legs: an elementwise factor, free in the epilogue before it
  int64_t core_elements = 0;
  int64_t core_bytes = 0;  // as encoded, without padding
  int64_t multiply_adds_per_token = 0;
};

struct ContractionOrder {
  std::string expression;  // "((x V) S) U"; folded cores stand in brackets: "x [U S V]"
  std::vector<ContractionStep> steps;
  int num_foldings = 0;
  bool is_dense = false;  // one step with all cores
  int64_t weight_bytes() const;
  int64_t multiply_adds_per_token() const;
  // Steps that are products, each a parallel region unless it can share one.
  int num_products() const;
};

// kUnimplemented above six cores. Requires a validated matrix. The first is the one without
// foldings in which x meets the cores from the input side on (for U S V: "((x V) S) U"); the rest
// in no particular order, no two alike. Cores without a common leg are folded only when all are.
absl::StatusOr<std::vector<ContractionOrder>> EnumerateOrders(const FactoredMatrix& matrix,
                                                              const Term& term);

}  // namespace rankine
