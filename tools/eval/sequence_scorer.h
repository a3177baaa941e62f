// Likelihood of the ends of token sequences, each given its beginning.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/base/dtype.h"
#include "models/tokenizer/tokenizer.h"
#include "runtime/model.h"
#include "tools/compress/progress.h"

namespace rankine {

struct Continuation {
  std::vector<int32_t> tokens;
  int64_t first = 1;  // of the tokens that are scored; at least 1
};

struct ContinuationScore {
  double log_likelihood = 0;  // nats, summed over the scored tokens
  int64_t tokens = 0;
  bool is_greedy = false;  // every scored token is the most likely one
};

// `text` after `context` as tokens. Both are encoded together, and what the tokens of the context
// alone leave is the continuation; spaces at the end of the context count to the text, as
// tokenizers merge them with what follows (the rule of lm-evaluation-harness). kInvalidArgument: a
// context or a text without tokens.
absl::StatusOr<Continuation> EncodeContinuation(const Tokenizer& tokenizer,
                                                const std::string& context,
                                                const std::string& text);

// Scores in the order of the sequences; short ones share passes, which changes no score.
// kInvalidArgument names the sequence that exceeds the model's context or vocabulary. kDataLoss:
// logits that are not finite. kCancelled: the progress callback said so.
absl::StatusOr<std::vector<ContinuationScore>> ScoreContinuations(
    const Model& model, absl::Span<const Continuation> sequences, DType kv_dtype,
    const ProgressFn& progress = {});

}  // namespace rankine
