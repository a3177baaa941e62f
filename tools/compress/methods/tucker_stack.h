// `tucker --stack`: the attention projections of a block as one tensor (Moar et al. 2024, arXiv
// 2405.06626), [heads of q, k, v and o, head_dim, features] with o transposed, so that one core and
// one factor for each mode serve up to four linears. Each takes its range of the heads.
#pragma once

#include <vector>

#include "tools/compress/methods/method.h"

namespace rankine {

// Puts the projections of a block together, as the option "stack" says; all else stays alone.
std::vector<std::vector<size_t>> JoinTucker(absl::Span<const LinearShape> linears,
                                            const MethodSettings& settings);

// What JoinTucker put together; one linear alone as FactorizeTucker, unless the rest of its stack
// is missing. The budget is that of all linears, and the tensors stand with q. kInvalidArgument
// names what does not fit into the stack.
absl::StatusOr<std::vector<Factorization>> FactorizeTuckerJointly(
    absl::Span<const MethodInput> inputs);

}  // namespace rankine
