#include "tools/measure/statistics.h"

#include <algorithm>
#include <random>

#include "kernels/base/check.h"

namespace rankine {

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const size_t middle = values.size() / 2;
  std::nth_element(values.begin(), values.begin() + middle, values.end());
  const double upper = values[middle];
  if (values.size() % 2 == 1) return upper;
  return (upper + *std::max_element(values.begin(), values.begin() + middle)) / 2;
}

Interval PairedRatio(const std::vector<double>& a, const std::vector<double>& b) {
  RK_CHECK(a.size() == b.size());
  std::vector<double> ratios;
  for (size_t i = 0; i < a.size(); ++i) ratios.push_back(a[i] / b[i]);
  if (ratios.empty()) return {};
  constexpr int kResamples = 2000;
  std::mt19937 random(1);
  std::uniform_int_distribution<size_t> pick(0, ratios.size() - 1);
  std::vector<double> medians(kResamples), sample(ratios.size());
  for (double& median : medians) {
    for (double& value : sample) value = ratios[pick(random)];
    median = Median(sample);
  }
  std::sort(medians.begin(), medians.end());
  return {.median = Median(ratios),
          .low = medians[kResamples * 25 / 1000],
          .high = medians[kResamples * 975 / 1000 - 1]};
}

}  // namespace rankine
