// `mpo`: a matrix product operator over 2 to 4 sites (CompactifAI, Tomut et al. 2024, arXiv
// 2401.14109): successive truncated SVDs in canonical form, of W's shape where it is split best.
// With --weighting none the squared Frobenius error is the sum of the squared singular values
// dropped; with full, cores are fitted to the calibration text (mpo_decomposition.h).
#pragma once

#include "tools/compress/methods/method.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeMpo(const MethodInput& input);

inline constexpr MethodOption kMpoOptions[] = {
    {.name = "sites",
     .kind = MethodOption::Kind::kInteger,
     .default_value = "2",
     .help = "cores of the chain, where --shape does not say",
     .min = 2,
     .max = 4},
    {.name = "bond",
     .kind = MethodOption::Kind::kInteger,
     .default_value = "0",
     .help = "the largest bond; 0: the largest that the budget holds",
     .min = 0,
     .max = 1 << 20},
    {.name = "shape",
     .kind = MethodOption::Kind::kWord,
     .default_value = "",
     .help = "OUTxIN of each site, as 24x24,36x16; empty: searched"},
    {.name = "weighting",
     .kind = MethodOption::Kind::kWord,
     .default_value = "full",
     .help = "full: cores fitted to the calibration text; none: the Frobenius norm",
     .words = "none full"},
    {.name = "max-operations",
     .kind = MethodOption::Kind::kNumber,
     .default_value = "4",
     .help = "multiply-adds that a searched shape may take, as a multiple of the dense matrix's",
     .min = 0.1,
     .max = 1000},
};

inline constexpr Method kMpoMethod{
    .name = "mpo",
    .help = "a matrix product operator, --weighting full over the calibration text or none",
    .options = kMpoOptions,
    .factorize = &FactorizeMpo,
};

}  // namespace rankine
