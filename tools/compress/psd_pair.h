// Linear equations N1 X S1 + N2 X S2 = R with positive semidefinite N1, N2, S1, S2, the normal
// equations of least squares in two metrics at once: X meets one metric in some rows of a problem
// and another in the others.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "tools/compress/linalg.h"

namespace rankine {

// X with X^T N1 X = diag(first) and X^T N2 X = diag(second): one basis that both are diagonal in.
struct PsdPair {
  Matrix64 basis;                     // [n, r]; r < n where both are zero in some direction
  std::vector<double> first, second;  // [r]
};

// Requires symmetric matrices [n, n]. Directions below 1e-12 of the largest in both count as zero.
// Indices that neither matrix couples are treated apart, so a block diagonal pair costs no more
// than its blocks. kInternal: an eigendecomposition did not converge.
absl::StatusOr<PsdPair> DiagonalisePair(const Matrix64& n1, const Matrix64& n2);

// The X [n, s] of least norm, in the pairs' bases, that solves N1 X S1 + N2 X S2 = R [n, s] in the
// directions that some summand reaches (more than 1e-12 of the most that any does).
Matrix64 SolvePair(const PsdPair& n, const PsdPair& s, const Matrix64& r);

// h^1/2, symmetric: eigenvectors times root eigenvalues times eigenvectors. Errors as above.
absl::StatusOr<Matrix64> SymmetricRoot(const Matrix64& h);

}  // namespace rankine
