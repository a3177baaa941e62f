// `loss-greedy`: ranks that minimise the sum of squared absolute losses over all linears within one
// budget. Slices are independent and their losses fall, so that this is a choice of points on the
// linears' curves of loss against cost: the points of least loss + lambda x cost, lambda by
// bisection, are optimal for what they cost; what is left of the budget goes, slice by slice, where
// it buys most. "Dense" is one more point of each curve, without loss.
#pragma once

#include "tools/compress/allocation/allocation.h"

namespace rankine {

// kInvalidArgument: the budget does not hold the smallest rank everywhere.
absl::StatusOr<Allocation> AllocateLossGreedy(const AllocationRequest& request);

}  // namespace rankine
