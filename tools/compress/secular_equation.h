// The eigenproblem of D + rho z z^T, D diagonal: what a merge of divide and conquer comes to
// (tridiagonal_eigen.h).
#pragma once

#include <cstdint>
#include <vector>

#include "tools/compress/linalg.h"

namespace rankine {

struct SecularEigen {
  std::vector<double> values;  // rising [k]
  // differences(i, j) = d_j - values[i], to full relative precision: row i gives an eigenvector as
  // weight_j / differences(i, j), up to its length.
  Matrix64 differences;  // [k, k]
  // z sqrt(rho) but for rounding: values are exactly those of D + weights weights^T [k].
  std::vector<double> weights;
};

// Requires k >= 1, d strictly rising, no z_j zero (neither within rounding: both are deflated
// before) and rho > 0.
SecularEigen SolveSecular(const std::vector<double>& d, const std::vector<double>& z, double rho);

}  // namespace rankine
