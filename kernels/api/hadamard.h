// The randomised Hadamard transform of rows of activations (QuIP#, arXiv 2402.04396).
#pragma once

#include <cstdint>

#include "kernels/base/tensor_view.h"

namespace rankine {

// y = (H_p kron B) (signs * x) / sqrt(2^p), n = 2^p x b: H_p is Sylvester's matrix, applied by
// butterflies; B an orthogonal block, applied to each run of b columns, absent for b = 1. With
// `transposed` its inverse: y = signs * ((H_p kron B^T) x) / sqrt(2^p).
inline constexpr int64_t kMaxHadamardBlock = 1024;

struct HadamardArgs {
  MatrixView x;                  // f32 or bf16 [t, n]
  const float* signs = nullptr;  // [n]
  // What is applied to the runs, by columns: B[i][j] at block[j * b + i]; with `transposed` B^T,
  // B[i][j] at block[i * b + j]. b <= kMaxHadamardBlock; null: b = 1.
  const float* block = nullptr;
  int64_t block_size = 1;  // b
  bool transposed = false;
  // To `out` y (+ bias) (+ out) is written.
  const float* bias = nullptr;  // [n]; null = 0
  bool accumulate = false;
  MatrixView out;        // f32 [t, n]; may be x when that is f32; data null = not wanted
  MatrixView quantized;  // i8 [t, n], of y; only without bias and accumulate; null = not wanted
  // f32 [t, n] for what lies between: needed with `accumulate` and where `out` is not wanted. May
  // be x when that is f32, but not `out`. What it holds afterwards is not specified.
  MatrixView scratch;
};

}  // namespace rankine
