// Distributions of the next token from a row of logits, in f64. Logits that are not finite give
// NaN.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace rankine {

// log of the sum of exp.
double LogSumExp(const float* logits, int64_t vocab);
// -log softmax(logits)[target].
double NegativeLogLikelihood(const float* logits, int64_t vocab, int32_t target);

struct Divergence {
  double p_norm = 0, q_norm = 0;  // LogSumExp of each
  double kl = 0;                  // KL(softmax(p) || softmax(q)), in nats
};
Divergence KlDivergence(const float* p, const float* q, int64_t vocab);

// The first index of the greatest logit.
int32_t ArgMax(const float* logits, int64_t vocab);

// kInvalidArgument when a token is outside the model's vocabulary.
absl::Status CheckVocabulary(absl::Span<const int32_t> tokens, int64_t vocab);

}  // namespace rankine
