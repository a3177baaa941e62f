// From any checkpoint to a model folder of ours, one block of rows at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/dtype.h"
#include "models/checkpoint/checkpoint.h"
#include "models/checkpoint/encoding_map.h"

namespace rankine {

// Called after each block with the bytes written so far and in all.
using ConvertProgress = std::function<void(int64_t done_bytes, int64_t total_bytes)>;

inline constexpr DType kDefaultConvertDType = DType::kBF16;

struct ConvertOptions {
  // Of float matrices (kF32, kF16 or kBF16), and of GGUF blocks that nothing below encodes.
  DType dtype = kDefaultConvertDType;
  // By the names of linears ("model.layers.0.mlp.up_proj", "lm_head", "model.embed_tokens"); the
  // first rule that matches wins. All cores of a factored linear with two legs or more take part.
  std::vector<EncodingRule> map;
  // For linears that no rule matches. The embedding only where this says "keep".
  std::optional<EncodingTarget> encode;
  int num_threads = 0;  // 0 = the cores this process may run on
};

struct ConvertedCore {
  std::string linear;
  std::string core;  // "W", "U", ...
  Encoding encoding;
  int64_t weights = 0;
  int64_t bytes = 0;
  double relative_error = 0;  // ||W - W'||_F / ||W||_F of this core
};

struct ConvertReport {
  // Cores that were encoded or carried over as blocks, in the order of the model.
  std::vector<ConvertedCore> cores;
  // With a map: linears that neither a rule nor `encode` covers, and rules that no linear matched
  // first.
  std::vector<std::string> unmatched_linears, unused_rules;
};

// Writes `source` as the folder `out`, which must not exist; it appears complete or not at all.
// Vectors (norms, biases, the S of U S V) become f32 always: they cost nothing and no bit of them
// is lost. Block-encoded cores of a folder stay as they are unless they are told otherwise. A tied
// embedding is stored once. Tokenizer, chat template and licence come along. Errors name the
// tensor: a value that is not finite or does not fit.
absl::StatusOr<ConvertReport> ConvertModel(const Checkpoint& source, const std::string& out,
                                           const ConvertOptions& options,
                                           const ConvertProgress& progress = nullptr);

// The same with all matrices as `dtype`.
absl::Status ConvertModel(const Checkpoint& source, const std::string& out,
                          DType dtype = kDefaultConvertDType,
                          const ConvertProgress& progress = nullptr);

}  // namespace rankine
