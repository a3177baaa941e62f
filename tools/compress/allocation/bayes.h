// `bayes` (Bolaco, Ji et al., arXiv 2405.10616): ranks by Bayesian optimisation of the model's loss
// on held-out text under the budget: a Gaussian process with a Matern 5/2 kernel, and the point of
// the greatest expected improvement next (tools/compress/search/bayes_optimizer.h).
//
// A few numbers stand for all ranks: linears of one type (all q_proj, ..) in one band of the depth
// share a weight, from 1/4 to 4, and keep shares of their size in proportion to their weights, as
// much as the budget holds; what would keep all stays dense. So every point is within the budget
// and uses it. The first is the uniform share: the result is never worse than that on the
// validation text.
#pragma once

#include "tools/compress/allocation/allocation.h"

namespace rankine {

// kInvalidArgument: fewer than one evaluation or band, or a budget below the smallest rank
// everywhere. Errors of request.loss_of.
absl::StatusOr<Allocation> AllocateByBayes(const AllocationRequest& request);

}  // namespace rankine
