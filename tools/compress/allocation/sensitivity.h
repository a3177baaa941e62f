// `sensitivity` (ASVD, Yuan et al., arXiv 2312.05821): the model's loss is measured with one linear
// factored at a time, at several shares of its size; then one threshold of the loss decides for
// all: every linear takes the smallest rank that raises the loss by no more. The threshold is the
// least that the budget allows, by bisection.
//
// Beyond the paper, whose linears take only the measured shares: between two of them the increase
// counts as linear in the rank, so that the budget is used; it never falls when the rank falls (a
// smaller rank that happens to do better on the validation text lends its increase to the larger
// ones); and what a jump of the threshold leaves over goes to the linears that lose most.
#pragma once

#include "tools/compress/allocation/allocation.h"

namespace rankine {

// kInvalidArgument: shares outside (0, 1), or a budget below the smallest share everywhere. Errors
// of request.loss_of.
absl::StatusOr<Allocation> AllocateBySensitivity(const AllocationRequest& request);

}  // namespace rankine
