#include "tools/explore/report/axis.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace rankine {
namespace {

constexpr double kLeastSpan = 0.1;  // of the values

std::vector<double> LinearTicks(const Axis& axis, int most) {
  const double length = axis.high - axis.low;
  double step = std::pow(10, std::floor(std::log10(length / most)));
  for (const double factor : {2.0, 2.5, 2.0}) {
    if (length / step <= most) break;
    step *= factor;
  }
  std::vector<double> ticks;
  for (double k = std::ceil(axis.low / step - 1e-9); k * step <= axis.high + 1e-9 * length; ++k) {
    ticks.push_back(k * step);
  }
  return ticks;
}

std::vector<double> LogTicks(const Axis& axis, int most) {
  // From the finest to the coarsest.
  const std::vector<std::vector<double>> choices = {
      {1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 2, 3, 5, 7}, {1, 2, 5}, {1, 3}, {1}};
  std::vector<double> ticks;
  for (int stride = 1; stride < 64; ++stride) {
    for (const std::vector<double>& mantissas : choices) {
      // Sparse powers of ten come after everything that shows each of them.
      if (stride > 1 && mantissas.size() > 1) continue;
      ticks.clear();
      for (int power = static_cast<int>(std::floor(std::log10(axis.low))); power < 40; ++power) {
        if (power % stride != 0) continue;
        for (const double m : mantissas) {
          const double value = m * std::pow(10, power);
          if (axis.Holds(value)) ticks.push_back(value);
        }
      }
      if (static_cast<int>(ticks.size()) <= most) return ticks;
    }
  }
  return ticks;
}

}  // namespace

double Axis::At(double value) const {
  const double held = std::clamp(value, low, high);
  const double share =
      is_log ? std::log(held / low) / std::log(high / low) : (held - low) / (high - low);
  return begin + share * (end - begin);
}

std::vector<double> TicksOf(const Axis& axis, int most) {
  std::vector<double> ticks = axis.is_log ? LogTicks(axis, most) : LinearTicks(axis, most);
  if (axis.is_log && ticks.size() < 2) {
    // Less than a step of the finest: as on a linear axis.
    Axis linear = axis;
    linear.is_log = false;
    ticks = LinearTicks(linear, most);
  }
  return ticks;
}

std::string TickLabel(double value) {
  const double size = std::abs(value);
  if (size < 1e-12) return "0";
  if (size >= 1e6 || size < 1e-3) {
    const int power = static_cast<int>(std::floor(std::log10(size) + 1e-9));
    return absl::StrCat(absl::StrFormat("%.3g", value / std::pow(10, power)), "e", power);
  }
  return absl::StrFormat("%.6g", value);
}

Axis AxisAround(const std::vector<double>& values, bool is_log, double margin) {
  Axis axis{.low = 1, .high = 2, .is_log = is_log};
  if (values.empty()) return axis;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  axis.low = *low;
  axis.high = *high;
  if (is_log) {
    const double widen = std::sqrt(std::max(1.0, (1 + kLeastSpan) * axis.low / axis.high));
    axis.low /= widen;
    axis.high *= widen;
    const double factor = std::pow(axis.high / axis.low, margin);
    axis.low /= factor;
    axis.high *= factor;
    return axis;
  }
  double least = kLeastSpan * std::max(std::abs(axis.low), std::abs(axis.high));
  if (least == 0) least = 1;
  const double widen = std::max(0.0, least - (axis.high - axis.low)) / 2;
  axis.low -= widen;
  axis.high += widen;
  const double length = axis.high - axis.low;
  axis.low -= margin * length;
  axis.high += margin * length;
  return axis;
}

}  // namespace rankine
