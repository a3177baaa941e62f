// `qlr` (LQER, arXiv 2402.02446; QERA, arXiv 2410.06040): W' = Q + L R, Q the weight rounded to
// blocks, L R what that lost, under a norm of the inputs.
//
//   --scaling exact      ||(W - Q - L R) H^1/2||_F                   QERA-exact
//             diagonal   the same with H's diagonal alone            QERA-approx
//             l2qer      features weighted by mean |x|               L2QER
//             identity   ||W - Q - L R||_F, without a text           LQER
//
// The papers scale, take the SVD and scale back; L = the left singular vectors of (W - Q) H^1/2 and
// R = L^T (W - Q) is the same product and inverts nothing, so a feature that is always zero does no
// harm. With --iterations N, Q = round(W - L R) and L R are found N times in turn (LoftQ, arXiv
// 2310.08659, does that without a text), and the best of them in the scaling's norm is kept.
#pragma once

#include "tools/compress/methods/method.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeQlr(const MethodInput& input);

inline constexpr MethodOption kQlrOptions[] = {
    {.name = "base-encode",
     .kind = MethodOption::Kind::kEncoding,
     .default_value = "int4:g64",
     .help = "the encoding of Q"},
    {.name = "scaling",
     .kind = MethodOption::Kind::kWord,
     .default_value = "exact",
     .help = "the norm: exact, diagonal, l2qer, identity",
     .words = "exact diagonal l2qer identity"},
    {.name = "iterations",
     .kind = MethodOption::Kind::kInteger,
     .default_value = "1",
     .help = "times that Q and L R are found in turn",
     .min = 1,
     .max = 1000},
};

inline constexpr Method kQlrMethod{
    .name = "qlr",
    .help = "Q + L R: the norm of (W - Q - L R) X (QERA), or as --scaling says",
    .options = kQlrOptions,
    .factorize = &FactorizeQlr,
};

}  // namespace rankine
