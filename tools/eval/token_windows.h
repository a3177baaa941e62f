// Text files to windows of tokens, for calibration and evaluation.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "models/tokenizer/tokenizer.h"

namespace rankine {

// The files' bytes, one after another, as tokens of one text (with BOS only where the model's
// tokenizer adds it). Errors name the file; control tokens spelled in the text stay text.
absl::StatusOr<std::vector<int32_t>> ReadTextTokens(const Tokenizer& tokenizer,
                                                    absl::Span<const std::string> files);

// Non-overlapping windows of `length` tokens; views into `tokens`. Of the N that the tokens hold,
// `count` are taken at even distances (window floor(k N / count)), so that all parts of the text
// are heard; 0 takes all. A partial window at the end is dropped.
// kInvalidArgument when the tokens hold fewer windows than `count`, or none.
absl::StatusOr<std::vector<absl::Span<const int32_t>>> SelectWindows(
    absl::Span<const int32_t> tokens, int64_t length, int64_t count);

// What perplexity scores: non-overlapping windows of `context` tokens, at most `max_windows` at
// even distances (0 = all); a shorter text is one window. kInvalidArgument: fewer than two tokens,
// or a context below 2.
absl::StatusOr<std::vector<absl::Span<const int32_t>>> EvaluationWindows(
    absl::Span<const int32_t> tokens, int64_t context, int64_t max_windows);

}  // namespace rankine
