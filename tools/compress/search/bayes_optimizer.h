// Minimises a function of the unit cube that is costly to evaluate: a Gaussian process of what was
// evaluated says where the least is expected (gaussian_process.h). It is asked for a point and told
// nothing: the next point is a function of the seed and of all that was evaluated, so that a run
// which was interrupted proposes the same points again.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace rankine {

struct Evaluation {
  std::vector<double> point;  // in [0, 1]^d
  double value = 0;
};

class BayesOptimizer {
 public:
  struct Options {
    int64_t dims = 0;
    uint64_t seed = 0;
    // Points of a Latin hypercube that come after the centre and before the model is asked.
    int64_t initial = 8;
  };
  explicit BayesOptimizer(const Options& options);

  // The point to evaluate after `done`, which are those proposed before, in order. First the
  // centre of the cube, then the hypercube's, then that of the greatest expected improvement: the
  // best of random points, and of some near the best evaluated one, moved uphill coordinate by
  // coordinate. kInvalidArgument: a value that is not finite.
  absl::StatusOr<std::vector<double>> Propose(const std::vector<Evaluation>& done) const;

 private:
  std::vector<double> InitialPoint(int64_t index) const;

  Options options_;
};

}  // namespace rankine
