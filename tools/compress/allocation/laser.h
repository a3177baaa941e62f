// `laser` (Sharma et al., arXiv 2312.13558): there may be reductions that *lower* the model's loss.
// Every linear is reduced alone to several shares of its rank, and the reduction after which the
// validation text is least surprising is taken; with more than one intervention allowed, those that
// help alone are tried in that order on top of what is taken, and stay where the loss falls again.
// All other linears stay as they are, and where nothing helps everything does. There is no budget.
#pragma once

#include "tools/compress/allocation/allocation.h"

namespace rankine {

// kInvalidArgument: shares outside (0, 1), fewer than one intervention. Errors of request.loss_of.
absl::StatusOr<Allocation> AllocateByLaser(const AllocationRequest& request);

}  // namespace rankine
