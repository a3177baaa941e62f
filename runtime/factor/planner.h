// Chooses how each term of the matrices of a LinearGroup is stored and contracted, by the predicted
// time of a number of tokens (one, unless asked otherwise; group_plan.h says which forms a group
// then keeps). Another form than the checkpoint's may cost at most extra_weight_bytes more memory a
// term. Candidates within 2% of the best are ties, won by the fewest foldings: a folding rounds a
// product of cores that the checkpoint keeps apart.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/factor/contraction.h"
#include "runtime/factor/device_profile.h"
#include "runtime/factor/factored_matrix.h"
#include "runtime/factor/lowering.h"

namespace rankine {

struct PlannerOptions {
  DeviceProfile profile = kPlanningProfile;
  DType compute = DType::kF32;        // of products with float cores: kF32 or kBF16
  bool int8_blocks = true;            // block-encoded cores read quantised activations
  DType weight_dtype = DType::kBF16;  // of cores that are folded or decoded, in memory
  int64_t extra_weight_bytes = 0;     // of each term
  int64_t tokens = 1;                 // that candidates are compared at
  // To measure candidates: the expression of each term's order, matrix after matrix, in place of
  // the planner's choice. Empty = the planner chooses.
  std::vector<std::string> orders;
};

struct Candidate {
  ContractionOrder order;
  Lowering lowering;               // of an order that can be executed
  int64_t weight_bytes = 0;        // as packed; of an order that can't: as encoded
  int64_t extra_bytes = 0;         // of another form than the checkpoint's, beyond the stored cores
  int num_steps = 0;               // regions: products, gathers and conversions in between
  std::string rejected;            // why it may not be chosen; empty = eligible
  double decode_microseconds = 0;  // alone, at one token
  double microseconds = 0;         // alone, at PlannerOptions::tokens
};

struct TermChoice {
  std::vector<Candidate> candidates;
  int chosen = -1;
  const Candidate& choice() const { return candidates[chosen]; }
};

struct MatrixChoice {
  std::vector<TermChoice> terms;
  std::string expression() const;  // "x Q + (x R) L"
  // All of it is one core [output, input], without transforms.
  bool is_dense = false;
};

// Bytes of W [n, k] of a lowered step as packed, and the dtype that its activations have.
int64_t PackedStepBytes(const Term& term, const LoweredStep& step, DType weight_dtype);
DType ActivationsOf(const LoweredStep& step, const PlannerOptions& options);

// The candidates of all terms, without a choice. Errors as PlanGroup's.
absl::StatusOr<std::vector<MatrixChoice>> EnumerateCandidates(
    absl::Span<const FactoredMatrix> matrices, const PlannerOptions& options);

// Chooses among them, by options that may differ from those they were made with in tokens, bytes
// and orders. Errors as PlanGroup's.
absl::Status ChooseCandidates(absl::Span<const FactoredMatrix> matrices,
                              const PlannerOptions& options, std::vector<MatrixChoice>* choices);

// Predicted seconds of the choice at options.tokens: what it was chosen by, or at other tokens.
double ChoiceSeconds(absl::Span<const FactoredMatrix> matrices,
                     absl::Span<const MatrixChoice> choices, const PlannerOptions& options);

// One choice per matrix. Encodings are those that memory will hold. kUnimplemented names the matrix
// and why when no candidate can be executed.
absl::StatusOr<std::vector<MatrixChoice>> PlanGroup(absl::Span<const FactoredMatrix> matrices,
                                                    const PlannerOptions& options);

}  // namespace rankine
