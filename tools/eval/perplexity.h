// Perplexity of a model on a text.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/base/dtype.h"
#include "models/tokenizer/tokenizer.h"
#include "runtime/model.h"
#include "tools/compress/progress.h"

namespace rankine {

struct PerplexityOptions {
  int64_t context = 512;    // tokens of a window
  int64_t max_windows = 0;  // at most so many, at even distances over the text; 0 = all
  DType kv_dtype = DType::kF32;
};

struct PerplexityResult {
  double perplexity = 0;
  // Of the perplexity, by the delta method from the windows' mean losses; absent with one window.
  std::optional<double> standard_error;
  int64_t tokens = 0;  // scored
  int64_t windows = 0;
};

// exp of the mean negative log-likelihood over non-overlapping windows, positions 1..n-1 of each
// scored given those before them in the window; log-softmax in f64. The last, partial window is
// dropped unless it is the only one. A pass takes several short windows at once; the result does
// not depend on how many.
// kInvalidArgument: fewer than two tokens, a token outside the vocabulary, a context below 2 or
// beyond the model's. kDataLoss: logits that are not finite. kCancelled: the progress callback
// said so.
absl::StatusOr<PerplexityResult> Perplexity(const Model& model, absl::Span<const int32_t> tokens,
                                            const PerplexityOptions& options,
                                            const ProgressFn& progress = {});

// The same for a text file.
absl::StatusOr<PerplexityResult> PerplexityOfFile(const Model& model, const Tokenizer& tokenizer,
                                                  const std::string& path,
                                                  const PerplexityOptions& options,
                                                  const ProgressFn& progress = {});

}  // namespace rankine
