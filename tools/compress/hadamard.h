// The randomised Hadamard transform in f64: y = (H_p kron B) (signs * x) / sqrt(2^p), as
// kernels/api/hadamard.h and docs/factorization.md define it for activations. Orthogonal, so a
// layer computes the same through transformed weights and inputs, whose numbers are near normal
// whatever they were (QuIP#, arXiv 2402.04396, section 3): what rounding with one scale needs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/factor/factored_matrix.h"
#include "tools/compress/linalg.h"
#include "tools/compress/stored_tensor.h"

namespace rankine {

class HadamardTransform {
 public:
  // signs [n] of +1 or -1, n = 2^p b; block [b, b], row-major and orthogonal; {1} for b = 1.
  HadamardTransform(std::vector<double> signs, std::vector<double> block, int64_t block_size);

  // Signs from the seed; b is the odd part of `features`, B the Hartley matrix
  // (cos + sin)(2 pi i j / b) / sqrt(b), which has no large entry, rounded to f32 as it is stored.
  // kUnimplemented: an odd part above the engine's kMaxHadamardBlock.
  static absl::StatusOr<HadamardTransform> Random(int64_t features, uint64_t seed);

  int64_t features() const { return static_cast<int64_t>(signs_.size()); }
  // x becomes A x, or A^T x. x [features].
  void Apply(double* x) const;
  void ApplyInverse(double* x) const;

  // W A^T: what the weights are for transformed inputs. w [m, features].
  void TransformInputs(Matrix64* w) const;
  // A W: what they are for transformed outputs. w [features, n].
  void TransformOutputs(Matrix64* w) const;
  // A H A^T, the second moments of transformed inputs, exactly symmetric. h [features, features].
  void TransformMoments(Matrix64* h) const;

  // How the manifest calls it: tensors NAME.signs (i8) and, where b > 1, NAME.block (f32), which
  // are added to `tensors`. `transposed`: the inverse, for outputs.
  Transform Store(const std::string& name, bool transposed,
                  std::vector<StoredTensor>* tensors) const;

 private:
  void ApplyBlock(bool inverse, double* x) const;
  void Butterflies(double* x) const;

  std::vector<double> signs_, block_;
  int64_t block_size_ = 1;
};

}  // namespace rankine
