// Chooses how each matrix of a LinearGroup is stored and contracted. The stored form is chosen
// once, for all token counts, by the predicted time of one token (decode); another form than the
// checkpoint's may cost at most extra_weight_bytes more memory. Candidates within 2% of the best
// are ties, won by the fewest foldings: a folding rounds a product of cores that the checkpoint
// keeps apart.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/factor/contraction.h"
#include "runtime/factor/device_profile.h"
#include "runtime/factor/factored_matrix.h"

namespace rankine {

struct PlannerOptions {
  DeviceProfile profile = kPlanningProfile;
  DType compute = DType::kF32;
  int64_t extra_weight_bytes = 0;
};

// How a matrix can be executed, with the reason why not where it can't.
enum class ExecutableForm : uint8_t { kNone, kDense, kTwoFactors };

struct Candidate {
  ContractionOrder order;
  ExecutableForm form = ExecutableForm::kNone;
  std::string rejected;            // why it may not be chosen; empty = eligible
  double decode_microseconds = 0;  // alone, at one token
};

struct MatrixChoice {
  std::vector<Candidate> candidates;
  int chosen = -1;
  const Candidate& choice() const { return candidates[chosen]; }
};

// One choice per matrix. kUnimplemented names the matrix and its form when no candidate can be
// executed.
absl::StatusOr<std::vector<MatrixChoice>> PlanGroup(absl::Span<const FactoredMatrix> matrices,
                                                    const PlannerOptions& options);

}  // namespace rankine
