#include "tools/eval/next_token.h"

#include <algorithm>
#include <cmath>

#include "Eigen/Core"
#include "absl/strings/str_cat.h"

namespace rankine {
namespace {

// Terms are worked on in pieces that stay in the first cache: Eigen has vectorised exponentials for
// values in memory, not for converted ones.
constexpr int64_t kPiece = 512;
using Piece = Eigen::Array<double, Eigen::Dynamic, 1, 0, kPiece, 1>;

Piece PieceOf(const float* row, int64_t begin, int64_t vocab) {
  const int64_t count = std::min(kPiece, vocab - begin);
  return Eigen::Map<const Eigen::ArrayXf>(row + begin, count).cast<double>();
}

// exp of z; not a number where z is not finite, which Eigen's exponential may clamp away.
Piece Exp(const Piece& z) { return z.exp() + (z - z); }

double Max(const float* row, int64_t vocab) { return *std::max_element(row, row + vocab); }

}  // namespace

double LogSumExp(const float* logits, int64_t vocab) {
  const double max = Max(logits, vocab);
  double sum = 0;
  for (int64_t i = 0; i < vocab; i += kPiece) sum += Exp(PieceOf(logits, i, vocab) - max).sum();
  return std::log(sum) + max;
}

double NegativeLogLikelihood(const float* logits, int64_t vocab, int32_t target) {
  return LogSumExp(logits, vocab) - logits[target];
}

// With Z the sums of exponentials, KL = E_p[p - q] - log Z_p + log Z_q.
Divergence KlDivergence(const float* p, const float* q, int64_t vocab) {
  const double p_max = Max(p, vocab), q_max = Max(q, vocab);
  double p_sum = 0, q_sum = 0, weighted = 0;
  for (int64_t i = 0; i < vocab; i += kPiece) {
    const Piece x = PieceOf(p, i, vocab), y = PieceOf(q, i, vocab);
    const Piece terms = Exp(x - p_max);
    p_sum += terms.sum();
    q_sum += Exp(y - q_max).sum();
    weighted += (terms * (x - y)).sum();
  }
  Divergence result{.p_norm = std::log(p_sum) + p_max, .q_norm = std::log(q_sum) + q_max};
  const double kl = weighted / p_sum - result.p_norm + result.q_norm;
  // Rounding can leave a sum of nothing just below zero, which no divergence is.
  result.kl = kl < 0 ? 0 : kl;
  return result;
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
