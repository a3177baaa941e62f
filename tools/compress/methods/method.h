// What a factorisation method is, and the table of all of them. A method turns one weight into the
// cores of a FactoredMatrix; which linears, which budget and which statistics is not its business.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/base/dtype.h"
#include "runtime/factor/factored_matrix.h"
#include "tools/compress/linalg.h"
#include "tools/compress/statistics.h"

namespace rankine {

// A tensor as it goes to disk.
struct StoredTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::string bytes;
};

struct MethodInput {
  std::string name;                  // of the linear: "model.layers.0.mlp.up_proj"
  const Matrix64* weight = nullptr;  // W [m, n]
  const Moments* moments = nullptr;  // of its input; null = no calibration
  double keep = 1;                   // share of m n parameters
  DType dtype = DType::kBF16;        // of the large cores
  std::string bias_tensor;           // of the linear as it is; empty = none
};

struct Factorization {
  FactoredMatrix matrix;              // provenance is the caller's to fill
  std::vector<StoredTensor> tensors;  // every tensor that `matrix` names, but for the old bias
  int64_t rank = 0;                   // the largest bond
  Matrix64 product;                   // W' [m, n] of the cores as stored, rounding included
};

struct Method {
  std::string_view name;  // as on the command line
  bool needs_calibration = false;
  // Thread-safe and deterministic. Requires a budget of at least one slice that is smaller than the
  // dense matrix (RankFromKeep).
  absl::StatusOr<Factorization> (*factorize)(const MethodInput& input) = nullptr;
};

absl::Span<const Method> Methods();
// kInvalidArgument lists the known names.
absl::StatusOr<const Method*> FindMethod(std::string_view name);

// The rank whose two factors hold at most `keep` of the parameters of an m x n matrix:
// floor(keep m n / (m + n)), at least 1. The r numbers of S are not counted: S can be folded into
// either factor. 0 when the matrix is better left dense: keep = 1, or r (m + n) >= m n.
int64_t RankFromKeep(double keep, int64_t m, int64_t n);

// The factors rounded to storage: U and V as input.dtype, S as f32.
// kInvalidArgument when a factor does not fit in that dtype.
absl::StatusOr<Factorization> StoreSvd(const MethodInput& input, const SvdFactors& factors);

}  // namespace rankine
