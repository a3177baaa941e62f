// From any checkpoint to a model folder of ours, one block of rows at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "kernels/base/dtype.h"
#include "models/checkpoint/checkpoint.h"

namespace rankine {

// Called after each block with the bytes written so far and in all.
using ConvertProgress = std::function<void(int64_t done_bytes, int64_t total_bytes)>;

inline constexpr DType kDefaultConvertDType = DType::kBF16;

// Writes `source` as the folder `out`, which must not exist; it appears complete or not at all.
// Matrices, and the cores of factored linears, become `dtype` (kF32, kF16 or kBF16); vectors
// (norms, biases, the S of U S V) are f32 always: they cost nothing and no bit of them is lost. A
// tied embedding is stored once. Tokenizer, chat template and licence come along. Errors: a value
// that is not finite or does not fit in `dtype`, factored forms of other than float encodings (not
// supported yet); the tensor is named.
absl::Status ConvertModel(const Checkpoint& source, const std::string& out,
                          DType dtype = kDefaultConvertDType,
                          const ConvertProgress& progress = nullptr);

}  // namespace rankine
