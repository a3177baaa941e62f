// Models of ours as Hugging Face folders for other programs.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/base/dtype.h"
#include "models/checkpoint/checkpoint.h"
#include "models/checkpoint/convert.h"

namespace rankine {

struct ExportOptions {
  DType dtype = DType::kBF16;  // of dense matrices; vectors are f32
  // Of --factors: singular values go into the left factor, rounded once to its dtype, instead of a
  // tensor of their own.
  bool fold_scales = false;
  int num_threads = 0;  // 0 = the cores this process may run on
};

struct ExportReport {
  int64_t densified = 0;  // linears that were multiplied out or decoded
  int64_t factored = 0;   // linears whose factors were written
  int64_t bytes = 0;      // of all tensors written
  int64_t source_bytes = 0;
};

// Writes `out` (which must not exist; it appears whole or not at all) with every linear dense,
// computed from its factors in f64 and rounded to `dtype`: what transformers loads without code of
// ours. config.json asks for the biases that the factors brought; linears of its kind without one
// get zeros. kUnimplemented names what such a config cannot say: a bias of lm_head, RoPE divisors.
absl::StatusOr<ExportReport> ExportDense(const Checkpoint& source, const std::string& out,
                                         const ExportOptions& options,
                                         const ConvertProgress& progress = nullptr);

// Writes the factors under the names of docs/exporting.md, each tensor bit for bit as it is (but
// for fold_scales), and no factorization.json. Products U V and U S V, and Q + L R; what has no
// such name (Tucker, MPO, block encodings, other transforms) is kUnimplemented, by the matrix and
// the way out.
absl::StatusOr<ExportReport> ExportFactors(const Checkpoint& source, const std::string& out,
                                           const ExportOptions& options,
                                           const ConvertProgress& progress = nullptr);

}  // namespace rankine
