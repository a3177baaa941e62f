#include "tools/explore/frontier.h"

#include <cmath>
#include <functional>

#include "absl/strings/str_cat.h"

namespace rankine {
namespace {

double Loss(const PointResult& p) { return p.texts.front().log_difference.value; }

// Points that nothing dominates in (cost, loss), among those that `counts` lets in.
std::vector<bool> FrontierOf(const std::vector<PointResult>& points,
                             const std::function<double(const PointResult&)>& cost,
                             const std::function<bool(const PointResult&)>& counts) {
  std::vector<bool> on(points.size());
  for (size_t i = 0; i < points.size(); ++i) {
    if (!counts(points[i])) continue;
    on[i] = true;
    for (const PointResult& other : points) {
      if (!counts(other)) continue;
      const double a = cost(other) - cost(points[i]), b = Loss(other) - Loss(points[i]);
      if (a <= 0 && b <= 0 && (a < 0 || b < 0)) on[i] = false;
    }
  }
  return on;
}

}  // namespace

std::vector<bool> SizeFrontier(const std::vector<PointResult>& points) {
  return FrontierOf(
      points, [](const PointResult& p) { return static_cast<double>(p.size.linear_bytes); },
      [](const PointResult& p) { return !p.texts.empty(); });
}

std::vector<bool> SpeedFrontier(const std::vector<PointResult>& points) {
  return FrontierOf(
      points, [](const PointResult& p) { return -p.speed->decode_ratio.median; },
      [](const PointResult& p) { return !p.texts.empty() && p.speed; });
}

std::string PruneReason(const PointSpec& spec, const std::vector<PointSpec>& measured_specs,
                        const std::vector<PointResult>& measured) {
  if (spec.chain.empty()) return "";
  for (size_t i = 0; i < measured.size(); ++i) {
    const PointResult& p = measured[i];
    if (measured_specs[i].chain != spec.chain || measured_specs[i].budget <= spec.budget) continue;
    const double bytes =
        static_cast<double>(p.size.linear_bytes) * spec.budget / measured_specs[i].budget;
    for (const PointResult& q : measured) {
      if (static_cast<double>(q.size.linear_bytes) > bytes) continue;
      const double error = std::hypot(p.texts.front().log_difference.standard_error.value_or(0),
                                      q.texts.front().log_difference.standard_error.value_or(0));
      if (Loss(p) - Loss(q) <= 2 * error) continue;
      return absl::StrCat(q.name, " is smaller and better than ", p.name,
                          ", which has the larger budget");
    }
  }
  return "";
}

}  // namespace rankine
