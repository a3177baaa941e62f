// Ops over rows of activations. Outputs are f32 or bf16 (what the next product reads), pad columns
// zero.
#pragma once

#include <cstdint>

#include "kernels/base/stream.h"
#include "kernels/base/tensor_view.h"

namespace rankine {

// out[t, :] = x[t, :] / sqrt(mean(x[t, :]^2) + eps) * weight  (Zhang & Sennrich, arXiv 1910.07467).
struct RmsNormArgs {
  MatrixView x;                   // f32 [t, n]
  const float* weight = nullptr;  // [n]
  float eps = 0;
  MatrixView out;  // f32 or bf16 [t, n]
};

// out = silu(gate) * up, silu(v) = v / (1 + exp(-v))  (SwiGLU, arXiv 2002.05202).
struct SiluMulArgs {
  MatrixView gate;  // f32 [t, n]
  MatrixView up;    // f32 [t, n]
  MatrixView out;   // f32 or bf16 [t, n]; may alias gate when f32
};

// out = x in another dtype (f32 -> bf16 or f32 -> f32).
struct ConvertArgs {
  MatrixView x;    // f32 [t, n]
  MatrixView out;  // f32 or bf16 [t, n]
};

}  // namespace rankine
