// Small-sample statistics of timings: medians, and the median of paired ratios with its interval.
#pragma once

#include <vector>

namespace rankine {

// 0 for an empty list.
double Median(std::vector<double> values);

struct Interval {
  double median = 0;
  double low = 0;
  double high = 0;
};

// Median of a[i] / b[i], with the 95% interval of a percentile bootstrap of the pairs (fixed seed).
// Pairs were taken side by side, so a drift of the machine's speed cancels.
Interval PairedRatio(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace rankine
