// Least squares for a Tucker form of a stack of weights that meet two metrics: those that read one
// input (q, k and v), and transposed ones (o) whose rows are inputs and whose columns are outputs.
//
//   E = sum_rows w_i D_i H D_i^T + v tr(D_o^T H_o D_o),  D = T - (A x B) G C
//
// with D_i the rows of the first, D_o those of the transposed, H and H_o the second moments of
// their inputs. With w = 1 / E|y|^2 of each weight that is the sum of squared weighted errors.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/compress/linalg.h"
#include "tools/compress/tensor64.h"

namespace rankine {

// (A x B) G C: a core and one factor for each mode.
struct StackForm {
  Matrix64 heads;     // A [heads, a]
  Matrix64 dims;      // B [dim, b]
  Matrix64 features;  // C [c, features]
  Tensor64 core;      // G [a, b, c]
};
// [heads dim, features]
Matrix64 StackProduct(const StackForm& form);

struct StackMetric {
  std::vector<double> row_weights;  // w, of the rows that read the input: the first of the stack
  Matrix64 inputs;                  // H [features, features]
  // v H_o, of the rows behind them [rows, rows]
  Matrix64 transposed;
};

// E of a difference D [rows, features].
double StackError(const StackMetric& metric, const Matrix64& difference);

struct StackFitOptions {
  int max_rounds = 40;
  // Stops when a round lowers E by no more than this share of it.
  double least_gain = 1e-3;
};
// Fits G and C in turn, each exactly for the other (psd_pair.h), so that E never rises; A and B
// stay. Where E says nothing, both keep what they hold. C has orthonormal rows afterwards; one that
// is square
// ([features, features]) stays, and G is fitted alone. `t` is [rows, features]. Errors as
// DiagonalisePair.
absl::Status FitStack(const Matrix64& t, const StackMetric& metric, const StackFitOptions& options,
                      StackForm* form);

}  // namespace rankine
