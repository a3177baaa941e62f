// `caldera` (Saha et al., arXiv 2405.18886): W' = Q + L R with all three rounded, found in turn
// under the second moments H of the layer's inputs:
//
//   Q = LDLQ(W - L R) and descent over its codes (q_lr_search.h): block integers, or E8P at 2 bits
//       (arXiv 2402.04396)
//   L R = the rank-constrained regression of W - Q under H, L and R rounded (low_rank_fit.h)
//
// in the basis of randomised Hadamard transforms of inputs and outputs, which the engine runs. It
// starts from QERA's solution and from the low-rank part of W itself, and keeps the best iterate by
// the undamped H; so with --hadamard 0 it is never worse than `qlr` on the same grid.
//
// The linears of a block that read inputs of one extent share their signs, and so the engine
// transforms q, k and v's input once.
#pragma once

#include <vector>

#include "tools/compress/methods/method.h"

namespace rankine {

absl::StatusOr<std::vector<Factorization>> FactorizeCaldera(absl::Span<const MethodInput> inputs);
// By the part of the name before the last dot, and the extent of the input.
std::vector<std::vector<size_t>> JoinCaldera(absl::Span<const LinearShape> linears,
                                             const MethodSettings& settings);

inline constexpr MethodOption kCalderaOptions[] = {
    {.name = "base-encode",
     .kind = MethodOption::Kind::kEncoding,
     .default_value = "e8p",
     .help = "the encoding of Q"},
    {.name = "iterations",
     .kind = MethodOption::Kind::kInteger,
     .default_value = "1",
     .help = "times that Q and L R are found in turn",
     .min = 1,
     .max = 1000},
    {.name = "hadamard",
     .kind = MethodOption::Kind::kInteger,
     .default_value = "1",
     .help = "1: transform inputs and outputs",
     .min = 0,
     .max = 1},
    {.name = "ldlq",
     .kind = MethodOption::Kind::kInteger,
     .default_value = "1",
     .help = "0: round Q to the nearest",
     .min = 0,
     .max = 1},
    {.name = "passes",
     .kind = MethodOption::Kind::kInteger,
     .default_value = "10",
     .help = "of coordinate descent over Q's codes after LDLQ",
     .min = 0,
     .max = 1000},
    {.name = "damping",
     .kind = MethodOption::Kind::kNumber,
     .default_value = "0.1",
     .help = "share of the mean diagonal added for Q to what L R leaves of H",
     .min = 1e-6,
     .max = 1},
    {.name = "seed",
     .kind = MethodOption::Kind::kInteger,
     .default_value = "1",
     .help = "of the transforms' signs",
     .min = 0,
     .max = 4294967295.0},
};

inline constexpr Method kCalderaMethod{
    .name = "caldera",
    .help = "Q + L R, all rounded: the norm of (W - W') X, by LDLQ in a rotated basis",
    .needs_calibration = true,
    .options = kCalderaOptions,
    .factorize_jointly = &FactorizeCaldera,
    .join = &JoinCaldera,
};

}  // namespace rankine
