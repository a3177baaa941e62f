#include "tools/explore/point.h"

namespace rankine {

std::optional<double> PointResult::MeanRelativeError() const {
  if (linears.empty()) return std::nullopt;
  double sum = 0;
  for (const LinearError& l : linears) sum += l.relative_error;
  return sum / static_cast<double>(linears.size());
}

std::optional<double> PointResult::MeanWeightedError() const {
  if (linears.empty()) return std::nullopt;
  double sum = 0;
  for (const LinearError& l : linears) {
    if (!l.weighted_error) return std::nullopt;
    sum += *l.weighted_error;
  }
  return sum / static_cast<double>(linears.size());
}

}  // namespace rankine
