// The dense matrix that a FactoredMatrix stands for, as its cores are stored: what a factorisation
// is judged by, whatever its form, encoding and transforms.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/factor/factored_matrix.h"
#include "runtime/factor/tensor_source.h"
#include "tools/compress/linalg.h"
#include "tools/compress/stored_tensor.h"

namespace rankine {

// W' [out, in] with y = W' x, in f64: cores are decoded exactly (f32 holds every encoding's values)
// and contracted. Errors as the source has them.
absl::StatusOr<Matrix64> DenseProduct(const FactoredMatrix& matrix, const TensorSource& source);

// What a matrix takes.
struct StoredSize {
  // Numbers of the cores; those with one leg (the S of U S V) can be folded into a neighbour and
  // are not counted.
  int64_t parameters = 0;
  int64_t bits = 0;  // of every tensor, scales and transforms included
};

// Of `tensors`, which cores and biases of the matrices name. What stands elsewhere is not counted:
// a bias that the linear had before, a core that another matrix brings.
StoredSize SizeOfStored(absl::Span<const FactoredMatrix> matrices,
                        absl::Span<const StoredTensor> tensors);

}  // namespace rankine
