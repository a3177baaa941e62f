// Eigenvalues and eigenvectors of symmetric tridiagonal matrices by divide and conquer (Cuppen,
// Numer. Math. 36, 1981): the matrix is cut into two and a term of rank one, whose effect on the
// eigenvalues of the parts is a secular equation. Eigenvectors come from the weights for which the
// computed roots are exact (Gu & Eisenstat, SIAM J. Matrix Anal. Appl. 16(1), 1995), so they are
// orthogonal to rounding. Nearly all work is matrix products, where QR iterations apply rotations
// one by one.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/compress/linalg.h"

namespace rankine {

struct TridiagonalEigen {
  std::vector<double> values;  // rising [n]
  Matrix64 vectors;            // those of the `wanted` largest, as rows in the order of the values
};

// Of the matrix with `diagonal` [n] and `off` [n - 1] beside it. One thread; about 3 n^2 numbers of
// scratch. Requires 0 <= wanted <= n. kInternal: a part did not converge or a number is not finite.
absl::StatusOr<TridiagonalEigen> SolveTridiagonal(std::vector<double> diagonal,
                                                  std::vector<double> off, int64_t wanted);

}  // namespace rankine
