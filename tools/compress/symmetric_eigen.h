// Eigenvalues and eigenvectors of dense symmetric matrices, which every SVD of the factorisation
// methods comes down to.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/compress/linalg.h"

namespace rankine {

struct SymmetricEigen {
  std::vector<double> values;  // falling [n]
  Matrix64 vectors;            // rows: orthonormal eigenvectors of the first of them [wanted, n]
};

// The eigenvalues and the `wanted` largest's eigenvectors of a symmetric matrix, of which only one
// triangle is read. One thread; the result depends on nothing but the numbers. Residuals and
// orthogonality are off by a small multiple of n 2^-52 of the largest eigenvalue. About 6 n^2
// numbers of scratch. Requires rows = cols >= 1 and 0 <= wanted <= rows. kInternal: no convergence,
// or a number that is not finite.
absl::StatusOr<SymmetricEigen> LargestEigen(Matrix64 symmetric, int64_t wanted);

}  // namespace rankine
