// The ranks of a Tucker form: those that are given, or those that keep most at a budget.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/compress/methods/method.h"
#include "tools/compress/tensor64.h"

namespace rankine {

// How a weight is seen as a tensor of 2 or 3 modes.
struct TuckerModes {
  std::vector<int64_t> extents;
  size_t outputs = 1;  // how many of them, the first ones; the others are inputs
};

// One rank for each mode of `t`, the weight as a tensor (under H^1/2 where H is known to a mode):
// the option "ranks", else the budget's rank in every mode, else searched by what the HOSVD of `t`
// keeps. Empty: better left dense. kInvalidArgument: ranks that the modes cannot have or that
// exceed the budget, or a budget below rank 1 of every mode.
absl::StatusOr<std::vector<int64_t>> TuckerRanks(const MethodInput& input, const TuckerModes& modes,
                                                 const Tensor64& t);

}  // namespace rankine
