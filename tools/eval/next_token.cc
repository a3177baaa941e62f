#include "tools/eval/next_token.h"

#include <algorithm>
#include <cmath>

#include "Eigen/Core"
#include "absl/strings/str_cat.h"

namespace rankine {
namespace {

using Row = Eigen::Map<const Eigen::ArrayXf>;

}  // namespace

double LogSumExp(const float* logits, int64_t vocab) {
  const Row row(logits, vocab);
  const double max = row.maxCoeff();
  return std::log((row.cast<double>() - max).exp().sum()) + max;
}

double NegativeLogLikelihood(const float* logits, int64_t vocab, int32_t target) {
  const Row row(logits, vocab);
  const double max = row.maxCoeff();
  const double sum = (row.cast<double>() - max).exp().sum();
  return std::log(sum) + max - logits[target];
}

double KlDivergence(const float* p, const float* q, int64_t vocab) {
  const double p_norm = LogSumExp(p, vocab), q_norm = LogSumExp(q, vocab);
  const auto log_p = Row(p, vocab).cast<double>() - p_norm;
  const auto log_q = Row(q, vocab).cast<double>() - q_norm;
  // Rounding can leave a sum of nothing just below zero, which no divergence is.
  return std::max(0.0, (log_p.exp() * (log_p - log_q)).sum());
}

int32_t ArgMax(const float* logits, int64_t vocab) {
  return static_cast<int32_t>(std::max_element(logits, logits + vocab) - logits);
}

absl::Status CheckVocabulary(absl::Span<const int32_t> tokens, int64_t vocab) {
  for (const int32_t id : tokens) {
    if (id < 0 || id >= vocab) {
      return absl::InvalidArgumentError(absl::StrCat(
          "token ", id, " is outside the model's vocabulary of ", vocab, ": not its tokenizer"));
    }
  }
  return absl::OkStatus();
}

}  // namespace rankine
