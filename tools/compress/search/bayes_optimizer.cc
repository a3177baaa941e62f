#include "tools/compress/search/bayes_optimizer.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <utility>

#include "models/status_macros.h"
#include "tools/compress/search/gaussian_process.h"

namespace rankine {
namespace {

// Random points that are asked for their expected improvement, each some microseconds.
constexpr int kRandomPoints = 2000, kNearPoints = 500;
// Those that are moved uphill, by steps from kFirstStep on that halve down to kLastStep.
constexpr size_t kClimbers = 5;
constexpr double kFirstStep = 0.1, kLastStep = 1e-3;
// Of the points near the best: half of a coordinate's range in the widest draws.
constexpr double kNearWidth = 0.5;

// Numbers that depend on nothing but the seed: the standard's distributions may differ between
// libraries, its engine does not.
class Random {
 public:
  Random(uint64_t seed, uint64_t stream) {
    std::seed_seq sequence{seed & 0xffffffffu, seed >> 32, stream};
    engine_.seed(sequence);
  }
  // In [0, 1).
  double Uniform() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }
  uint64_t Below(uint64_t bound) { return engine_() % bound; }

 private:
  std::mt19937_64 engine_;
};

using Point = std::vector<double>;

struct Trial {
  double improvement = 0;
  Point point;
};

class Acquisition {
 public:
  Acquisition(const GaussianProcess& gp, const Evaluation& best, Random* random)
      : gp_(gp), best_(best), random_(random) {}

  Point Best() {
    std::vector<Trial> candidates;
    for (int i = 0; i < kRandomPoints; ++i) candidates.push_back(Rate(RandomPoint()));
    for (int i = 0; i < kNearPoints; ++i) candidates.push_back(Rate(NearPoint()));
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const auto& a, const auto& b) { return a.improvement > b.improvement; });
    candidates.resize(kClimbers);
    for (Trial& c : candidates) Climb(&c);
    return std::max_element(
               candidates.begin(), candidates.end(),
               [](const auto& a, const auto& b) { return a.improvement < b.improvement; })
        ->point;
  }

 private:
  Trial Rate(Point point) const {
    const double improvement = gp_.ExpectedImprovement(point.data(), best_.value);
    return {improvement, std::move(point)};
  }

  Point RandomPoint() {
    Point point(best_.point.size());
    for (double& x : point) x = random_->Uniform();
    return point;
  }

  Point NearPoint() {
    // Widths of all scales, so that both the valley and its floor are looked at.
    double width = kNearWidth;
    for (uint64_t halvings = random_->Below(8); halvings > 0; --halvings) width /= 2;
    Point point = best_.point;
    for (double& x : point) {
      x = std::clamp(x + width * (2 * random_->Uniform() - 1), 0.0, 1.0);
    }
    return point;
  }

  void Climb(Trial* c) const {
    for (double step = kFirstStep; step > kLastStep; step /= 2) {
      bool moved = true;
      while (moved) {
        moved = false;
        for (size_t i = 0; i < c->point.size(); ++i) {
          moved = TryMove(i, step, c) || TryMove(i, -step, c) || moved;
        }
      }
    }
  }

  bool TryMove(size_t i, double step, Trial* c) const {
    Point point = c->point;
    point[i] = std::clamp(point[i] + step, 0.0, 1.0);
    Trial moved = Rate(std::move(point));
    if (moved.improvement <= c->improvement) return false;
    *c = std::move(moved);
    return true;
  }

  const GaussianProcess& gp_;
  const Evaluation& best_;
  Random* random_;
};

}  // namespace

BayesOptimizer::BayesOptimizer(const Options& options) : options_(options) {}

Point BayesOptimizer::InitialPoint(int64_t index) const {
  if (index == 0) return Point(static_cast<size_t>(options_.dims), 0.5);
  // One point in each of `initial` slices of every coordinate.
  Random random(options_.seed, 0);
  const auto count = static_cast<size_t>(options_.initial);
  Point point;
  for (int64_t d = 0; d < options_.dims; ++d) {
    std::vector<size_t> slices(count);
    std::iota(slices.begin(), slices.end(), size_t{0});
    for (size_t i = count; i > 1; --i) std::swap(slices[i - 1], slices[random.Below(i)]);
    std::vector<double> within(count);
    for (double& w : within) w = random.Uniform();
    const auto i = static_cast<size_t>(index - 1);
    point.push_back((static_cast<double>(slices[i]) + within[i]) / static_cast<double>(count));
  }
  return point;
}

absl::StatusOr<Point> BayesOptimizer::Propose(const std::vector<Evaluation>& done) const {
  const auto count = static_cast<int64_t>(done.size());
  if (count <= options_.initial) return InitialPoint(count);
  Matrix64 x(count, options_.dims);
  std::vector<double> y;
  for (int64_t i = 0; i < count; ++i) {
    std::copy(done[i].point.begin(), done[i].point.end(), x.Row(i));
    y.push_back(done[i].value);
  }
  RK_ASSIGN_OR_RETURN(const GaussianProcess gp, GaussianProcess::Fit(x, y));
  const auto best = std::min_element(
      done.begin(), done.end(), [](const auto& a, const auto& b) { return a.value < b.value; });
  Random random(options_.seed, static_cast<uint64_t>(count));
  return Acquisition(gp, *best, &random).Best();
}

}  // namespace rankine
