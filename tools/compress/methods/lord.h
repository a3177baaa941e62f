// `lord`: atomic feature mimicking, as Yu & Wu 2023 have it and LoRD (Kaushal et al., arXiv
// 2309.14021) applies to code models. The outputs y = W x + b are projected on the eigenvectors Q
// of their covariance C = W H_c W^T, H_c = H - mu mu^T: W' = Q (Q^T W), and a new bias keeps the
// mean of the rest, b' = b + (I - Q Q^T) W mu. Without the mean it is svd-llm to the last digits;
// with it the loss is at most svd-llm's at the same rank, for m more numbers.
#pragma once

#include "tools/compress/methods/method.h"

namespace rankine {

absl::StatusOr<Factorization> FactorizeLord(const MethodInput& input);
absl::StatusOr<std::vector<double>> LordSliceLosses(const MethodInput& input);

// The same with another centred H: W' from it, b' from the mean. With `without_mean` the bias stays
// as it was.
absl::StatusOr<Factorization> FactorizeCentred(const MethodInput& input, const Matrix64& centred,
                                               bool without_mean);

inline constexpr MethodOption kLordOptions[] = {
    {.name = "mean",
     .kind = MethodOption::Kind::kInteger,
     .default_value = "1",
     .help = "1: centre the outputs and add a bias; 0: neither, which is svd-llm",
     .min = 0,
     .max = 1}};

inline constexpr Method kLordMethod{
    .name = "lord",
    .help = "the norm of y - y' over the calibration text, with a new bias",
    .needs_calibration = true,
    .options = kLordOptions,
    .adds_bias = [](const MethodSettings& settings) { return settings.Integer("mean") != 0; },
    .factorize = &FactorizeLord,
    .slice_losses = &LordSliceLosses,
};

}  // namespace rankine
