// All ways to contract one term of a FactoredMatrix with the activations x, two tensors at a time.
// The networks are tiny (at most six cores), so the search is exhaustive: every binary tree over
// {x, cores}.
//
// A contraction that involves x is a step at run time; one between cores alone is a *folding*, done
// once at load, whose result replaces its cores in memory. Folding all cores of a term is
// "materialise dense".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/factor/factored_matrix.h"

namespace rankine {

// One step at run time: x-tensor times a (possibly folded) core.
struct ContractionStep {
  int64_t core_elements = 0;
  int64_t core_bytes = 0;
  int64_t multiply_adds_per_token = 0;
  bool is_scale =
      false;  // no leg is summed: an elementwise factor, free in the epilogue of the step before it
};

struct ContractionOrder {
  std::string expression;  // "((x V) S) U"; folded cores stand in brackets: "x [U S V]"
  std::vector<ContractionStep> steps;
  int num_foldings = 0;
  bool is_dense = false;  // all cores folded into one
  int64_t weight_bytes() const;
  int64_t multiply_adds_per_token() const;
  // Steps that are products, each a parallel region unless it can share one.
  int num_products() const;
};

// kUnimplemented above six cores. Requires a validated matrix. The first is the one without
// foldings in which x meets the cores from the input side on (for U S V: "((x V) S) U"); the rest
// in no particular order, no two alike.
absl::StatusOr<std::vector<ContractionOrder>> EnumerateOrders(const FactoredMatrix& matrix,
                                                              const Term& term);

}  // namespace rankine
