// Next-token losses of the windows of a pass, from the hidden states behind the last layer.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "runtime/model.h"
#include "tools/eval/window_runner.h"

namespace rankine {

// Rows of logits made at a time: f32 of a vocabulary of 128k takes 32 MiB, and 64 rows already run
// the head's product at the speed of a large one. What a runner for WindowLosses must allow as
// max_logit_rows.
inline constexpr int64_t kLossRows = 64;

// Mean negative log-likelihood (nats, log-softmax in f64) of positions 1..n-1 of each window, given
// those before them. `runner` has begun a pass of these windows and holds what the last layer left.
// Not finite where the logits are not. Requires a decoder, and windows of at least two tokens.
std::vector<double> WindowLosses(const Model& model,
                                 absl::Span<const absl::Span<const int32_t>> windows,
                                 WindowRunner* runner);

}  // namespace rankine
