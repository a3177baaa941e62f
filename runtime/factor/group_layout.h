// What a LinearGroup consists of once its plan is chosen: the plan, and recipes of the packed cores
// and vectors that it refers to. Made without reading a weight; the loader then follows the
// recipes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/factor/contraction_plan.h"
#include "runtime/factor/planner.h"

namespace rankine {

// Rows [row_offset, row_offset + step.n) of a packed core: the cores of a lowered step as W [n, k].
struct CorePart {
  int matrix = 0, term = 0;
  LoweredStep step;
  int64_t row_offset = 0;  // a multiple of 16
};

// Parts of equal k that read the same x stand in one core.
struct CoreRecipe {
  bool block_encoded = false;
  Encoding encoding;  // block-encoded only
  int64_t n = 0, k = 0;
  std::vector<CorePart> parts;
};

struct VectorPart {
  int64_t offset = 0, size = 0;
  std::string tensor;  // a bias, signs or a block as stored; empty: scales
  int64_t rows = 1;    // of the tensor
  int matrix = 0, term = 0;
  std::vector<int> scales;  // cores of the term, multiplied over `legs`, slowest first
  std::vector<int> legs;
};

struct VectorRecipe {
  int64_t size = 0;
  float fill = 0;           // where there is no part
  bool transposed = false;  // a square matrix whose columns are wanted one behind the other
  std::vector<VectorPart> parts;
};

// Positions to gather from: a stored permutation, or one between two layouts.
struct IndexRecipe {
  std::string tensor;
  int64_t size = 0;
  std::vector<int32_t> indices;  // when there is no tensor
};

// Where a matrix that is one packed core lies.
struct DenseCore {
  int core = -1;
  int64_t row = 0, n = 0;
};

struct GroupLayout {
  ContractionPlan plan;
  std::vector<CoreRecipe> cores;
  std::vector<VectorRecipe> vectors;
  std::vector<IndexRecipe> index_lists;
  std::vector<int64_t> output_columns;  // first column of each matrix, multiples of 16
  std::vector<DenseCore> dense_cores;
};

// Requires chosen candidates.
absl::StatusOr<GroupLayout> LayOutGroup(absl::Span<const FactoredMatrix> matrices,
                                        absl::Span<const MatrixChoice> choices,
                                        const PlannerOptions& options);

}  // namespace rankine
