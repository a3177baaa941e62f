// `list`: what a file says, a line for each rule, the first that fits:
//
//   # REGEX               form
//   layers\.2[0-9]\.mlp   keep 0.5
//   q_proj$               rank 64
//   .*                    dense
//
// Linears that no rule fits stay dense.
#pragma once

#include "tools/compress/allocation/allocation.h"

namespace rankine {

// Errors name the file and the line; kInvalidArgument too when a rule fits no linear.
absl::StatusOr<Allocation> AllocateByList(const AllocationRequest& request);

}  // namespace rankine
