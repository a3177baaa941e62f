// Figures with their standard errors.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"

namespace rankine {

struct Estimate {
  double value = 0;
  std::optional<double> standard_error;  // absent where one sample gives none
};

// The mean of independent samples and its standard error, the sample deviation (n - 1) over
// sqrt(n). Requires at least one.
Estimate MeanOf(absl::Span<const double> samples);

// The q-quantile, linear between order statistics as NumPy's default. Requires samples.
double QuantileOf(std::vector<double> samples, double q);

// The quantile of all samples of clusters of one size, [cluster][sample] one after another. Its
// standard error is that of kBootstrapResamples resamples of whole clusters (samples of one window
// hang together), drawn by splitmix64 from a fixed seed: the same samples give the same figure.
inline constexpr int kBootstrapResamples = 200;
Estimate ClusterQuantile(const std::vector<double>& samples, int64_t cluster_size, double q);

}  // namespace rankine
