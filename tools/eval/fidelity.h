// How near a model's next-token distribution is to that of the dense model it was made from.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/model.h"
#include "tools/compress/progress.h"
#include "tools/eval/estimate.h"
#include "tools/eval/pass_states.h"
#include "tools/eval/perplexity.h"

namespace rankine {

// Over the positions that perplexity scores. Standard errors treat windows as the samples:
// positions of one window hang together.
struct FidelityResult {
  Estimate kl;      // mean KL(dense || model), nats
  Estimate kl_p99;  // its 99th percentile over positions; error by ClusterQuantile
  double kl_max = 0;
  Estimate top1;  // share of positions where both rank the same token first
  // Mean log-likelihood lost: log perplexity of the model minus that of the dense one, paired.
  Estimate log_perplexity_difference;
  double perplexity = 0, dense_perplexity = 0;
  std::optional<double> standard_error;  // of `perplexity`, as Perplexity gives it
  int64_t tokens = 0, windows = 0;
};

// `options` as for Perplexity; the caches of both have its dtype. `dense_states`, unless null, is
// of `dense`, these tokens and these options: it spares the dense model's layers all but the first
// time. kInvalidArgument: as Perplexity, and models of different vocabularies. kDataLoss: logits
// that are not finite. kCancelled: the progress callback said so.
absl::StatusOr<FidelityResult> CompareWithDense(const Model& model, const Model& dense,
                                                absl::Span<const int32_t> tokens,
                                                const PerplexityOptions& options,
                                                const ProgressFn& progress = {},
                                                PassStates* dense_states = nullptr);

}  // namespace rankine
