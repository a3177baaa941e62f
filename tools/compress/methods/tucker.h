// `tucker`: a core and one factor per mode (Moar et al. 2024, arXiv 2405.06626): attention
// projections as heads x head_dim x features, other linears as out x in; HOSVD start, HOOI, and the
// ranks that keep most at the budget. Several projections as one tensor: tucker_stack.h.
#pragma once

#include "tools/compress/methods/method.h"
#include "tools/compress/methods/tucker_stack.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeTucker(const MethodInput& input);

inline constexpr MethodOption kTuckerOptions[] = {
    {.name = "ways",
     .kind = MethodOption::Kind::kWord,
     .default_value = "auto",
     .help = "modes of a weight: 3 with the attention heads, 2 without, auto: 3 where there are "
             "heads",
     .words = "auto 2 3"},
    {.name = "stack",
     .kind = MethodOption::Kind::kWord,
     .default_value = "none",
     .help =
         "projections of an attention block as one tensor, with a shared core and factors: qkv, "
         "or qkvo, o transposed",
     .words = "none qkv qkvo"},
    {.name = "ranks",
     .kind = MethodOption::Kind::kWord,
     .default_value = "",
     .help = "of each mode, outputs first, as 8,48,200; empty: searched"},
    {.name = "weighting",
     .kind = MethodOption::Kind::kWord,
     .default_value = "full",
     .help = "full: the error over the calibration text; none: the Frobenius norm",
     .words = "none full"},
};

inline constexpr Method kTuckerMethod{
    .name = "tucker",
    .help = "a Tucker core and factors, --weighting full over the calibration text or none",
    .options = kTuckerOptions,
    .factorize = &FactorizeTucker,
    .factorize_jointly = &FactorizeTuckerJointly,
    .join = &JoinTucker,
};

}  // namespace rankine
