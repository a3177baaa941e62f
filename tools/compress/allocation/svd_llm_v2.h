// `svd-llm-v2` (Wang et al., arXiv 2503.12340): among the linears of one type (all q_proj, all
// up_proj, ..), each loses a share of its parameters in proportion to 1 / log(loss), where loss is
// the norm ||(W - W') X||_F that the uniform share would cost it. The mean share removed is that of
// the budget; what rounding and limits leave over is taken back from all alike.
#pragma once

#include "tools/compress/allocation/allocation.h"

namespace rankine {

// kInvalidArgument: the budget does not hold the smallest rank everywhere.
absl::StatusOr<Allocation> AllocateSvdLlmV2(const AllocationRequest& request);

}  // namespace rankine
