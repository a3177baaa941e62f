#include "tools/eval/estimate.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/check.h"

namespace rankine {
namespace {

// Steele, Lea, Flood 2014; public domain constants.
uint64_t SplitMix64(uint64_t* state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

double SampleDeviation(absl::Span<const double> samples, double mean) {
  double squares = 0;
  for (const double s : samples) squares += (s - mean) * (s - mean);
  return std::sqrt(squares / static_cast<double>(samples.size() - 1));
}

}  // namespace

Estimate MeanOf(absl::Span<const double> samples) {
  RK_CHECK(!samples.empty());
  const auto count = static_cast<double>(samples.size());
  double sum = 0;
  for (const double s : samples) sum += s;
  Estimate estimate{.value = sum / count};
  if (samples.size() > 1) {
    estimate.standard_error = SampleDeviation(samples, estimate.value) / std::sqrt(count);
  }
  return estimate;
}

double QuantileOf(std::vector<double> samples, double q) {
  RK_CHECK(!samples.empty());
  const double at = q * static_cast<double>(samples.size() - 1);
  const auto low = static_cast<size_t>(at);
  std::nth_element(samples.begin(), samples.begin() + static_cast<std::ptrdiff_t>(low),
                   samples.end());
  const double below = samples[low];
  if (low + 1 == samples.size()) return below;
  const double above =
      *std::min_element(samples.begin() + static_cast<std::ptrdiff_t>(low) + 1, samples.end());
  return below + (at - static_cast<double>(low)) * (above - below);
}

Estimate ClusterQuantile(const std::vector<double>& samples, int64_t cluster_size, double q) {
  Estimate estimate{.value = QuantileOf(samples, q)};
  const auto clusters = static_cast<int64_t>(samples.size()) / cluster_size;
  if (clusters < 2) return estimate;
  uint64_t state = 0;
  std::vector<double> quantiles, resample;
  for (int i = 0; i < kBootstrapResamples; ++i) {
    resample.clear();
    for (int64_t c = 0; c < clusters; ++c) {
      const auto chosen =
          static_cast<int64_t>(SplitMix64(&state) % static_cast<uint64_t>(clusters));
      const auto begin = samples.begin() + chosen * cluster_size;
      resample.insert(resample.end(), begin, begin + cluster_size);
    }
    quantiles.push_back(QuantileOf(resample, q));
  }
  double mean = 0;
  for (const double v : quantiles) mean += v / kBootstrapResamples;
  estimate.standard_error = SampleDeviation(quantiles, mean);
  return estimate;
}

}  // namespace rankine
