// Ops over rows of activations. Outputs are f32 or bf16, pad columns zero, or i8 (records of
// kernels/api/quantized_rows.h): what the next product reads. Some write two forms at once.
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
  MatrixView out;        // f32 or bf16 [t, n]; data null = not wanted
  MatrixView quantized;  // i8 [t, n]; data null = not wanted
};

// out = silu(gate) * up, silu(v) = v / (1 + exp(-v))  (SwiGLU, arXiv 2002.05202).
struct SiluMulArgs {
  MatrixView gate;       // f32 [t, n]
  MatrixView up;         // f32 [t, n]
  MatrixView out;        // f32 or bf16 [t, n]; may alias gate when f32; data null = not wanted
  MatrixView quantized;  // i8 [t, n]; data null = not wanted
};

// out[t, :] = (x[t, :] - mean) / sqrt(variance + eps) * weight + bias over the row's own mean and
// variance (the population's)  (Ba et al., arXiv 1607.06450).
struct LayerNormArgs {
  MatrixView x;                   // f32 [t, n]
  const float* weight = nullptr;  // [n]
  const float* bias = nullptr;    // [n]
  float eps = 0;
  MatrixView out;        // f32 or bf16 [t, n]; may be x when f32; data null = not wanted
  MatrixView quantized;  // i8 [t, n]; data null = not wanted
};

// out = x Phi(x) = x (1 + erf(x / sqrt(2))) / 2, exact, not the tanh approximation  (Hendrycks &
// Gimpel, arXiv 1606.08415).
struct GeluArgs {
  MatrixView x;          // f32 [t, n]
  MatrixView out;        // f32 or bf16 [t, n]; may be x when f32; data null = not wanted
  MatrixView quantized;  // i8 [t, n]; data null = not wanted
};

// out = x in another dtype.
struct ConvertArgs {
  MatrixView x;    // f32 or bf16 [t, n]
  MatrixView out;  // f32, bf16 or i8 [t, n]
};

// y = x (+ bias) (+ y): what output transforms leave for a plan's last step.
struct AddArgs {
  MatrixView x;                 // f32 [t, n]
  const float* bias = nullptr;  // [n]; null = 0
  MatrixView y;                 // f32 [t, n]; not x
  bool accumulate = false;
};

// out[t, k] = x[t, indices[k]].
struct PermuteArgs {
  MatrixView x;                      // f32 or bf16 [t, n]
  const int32_t* indices = nullptr;  // [n]
  MatrixView out;                    // f32 [t, n]; not x
};

}  // namespace rankine
