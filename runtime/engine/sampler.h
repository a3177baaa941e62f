// The next token of each row of logits: greedy, or drawn after temperature, top-k, top-p and min-p.
//
// The filters apply in the order of Hugging Face's logits warpers, each to what the one before it
// left, renormalised:
//   temperature  logits / temperature
//   top_k        the k largest; of equal logits the lowest ids
//   top_p        the fewest of the largest whose probabilities sum to at least top_p
//   min_p        those at least min_p times as probable as the most probable
// One random number per token, a function of (seed, index of the token) alone; every row is
// computed whole by one thread in one order. So a request's tokens depend on nothing around it.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "kernels/base/stream.h"
#include "kernels/base/tensor_view.h"
#include "runtime/engine/request.h"

namespace rankine {

// kInvalidArgument, naming the parameter: temperature in [0, 1000], top_k >= 0, top_p in (0, 1],
// min_p in [0, 1].
absl::Status ValidateSampling(const SamplingParams& params);

// A row to draw from.
struct SampleRow {
  SamplingParams params;
  int64_t index = 0;  // of the new token in the request's answer
};

// What a row gives when one of its logits is NaN or infinite.
inline constexpr int32_t kInvalidLogits = -1;

// Not thread-safe: one Sample at a time.
class Sampler {
 public:
  explicit Sampler(int64_t vocab_size);
  ~Sampler();

  // (*token_ids)[i] = the token of row i, or kInvalidLogits. logits f32 [rows.size(), vocab_size],
  // in memory of the host. Requires valid params. Rows are shared out over the stream's threads.
  // Allocates nothing once such rows have been seen.
  void Sample(const MatrixView& logits, const std::vector<SampleRow>& rows,
              std::vector<int32_t>* token_ids, Stream stream);

 private:
  struct Scratch;
  int64_t vocab_size_;
  std::vector<Scratch> scratch_;  // one per thread
};

}  // namespace rankine
