// A point of the design space: how a smaller model is made, and what was measured of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/compress/factorize.h"
#include "tools/eval/estimate.h"
#include "tools/measure/statistics.h"

namespace rankine {

enum class PointKind : uint8_t {
  kDense,      // the model that all others are made from
  kBaseline,   // another model, as it is
  kEncode,     // plain rounding of every linear to an encoding
  kFactorize,  // `rankine factorize`
};

// How to make it. `recipe` says it all in words of the command line, so that it may be repeated by
// hand and stands for the point in the cache.
struct PointSpec {
  PointKind kind = PointKind::kDense;
  std::string name;    // unique, for people
  std::string recipe;  // kFactorize: flags of factorize; kEncode: an encoding; kBaseline: a path
  FactorizeOptions factorize;  // kFactorize: what `recipe` parses to

  // For colours and pruning. Points of one chain differ in nothing but the budget; an empty chain
  // is never pruned.
  std::string family;  // the method, "rounding", "as it is"
  std::string chain;
  double budget = 0;  // within the chain: share of parameters or bits
};

struct LinearError {
  std::string name;
  int64_t rank = 0;  // 0 = not factored
  double relative_error = 0;
  std::optional<double> weighted_error;  // absent without statistics
};

// Of one text, against the dense model.
struct TextResult {
  std::string text;  // its name
  Estimate perplexity;
  // Mean over windows of loss(point) - loss(dense), nats; its error is that of paired windows.
  Estimate log_difference;
  Estimate kl, kl_p99;  // KL(dense || point) of the next token, nats
  Estimate top1;        // share of positions where both rank the same token first
  int64_t tokens = 0, windows = 0;
};

// Medians over repetitions that alternate with the dense model's.
struct SpeedResult {
  double prefill_tokens_per_second = 0;
  double decode_tokens_per_second = 0;
  Interval prefill_ratio, decode_ratio;  // to the dense model in the same minutes
  int64_t weight_bytes_per_token = 0;
};

// What the tensors of the numbered layers' linears take: cores, scales, transforms and biases.
struct ModelSize {
  int64_t linear_weights = 0;  // out x in, summed
  int64_t linear_bytes = 0;
  int64_t bytes = 0;  // of every tensor of the model

  double bits_per_weight() const {
    return linear_weights > 0
               ? 8 * static_cast<double>(linear_bytes) / static_cast<double>(linear_weights)
               : 0;
  }
};

struct PointResult {
  PointKind kind = PointKind::kDense;
  std::string name, recipe, family;
  ModelSize size;
  double parameters_kept = 1;
  // To factorise or encode, without calibration; absent where nothing was made, or not in one go.
  std::optional<double> make_seconds;
  std::vector<LinearError> linears;  // empty where the errors could not be measured
  std::vector<TextResult> texts;     // in the order of the options
  std::optional<SpeedResult> speed;  // absent when speed was not asked for
  // Means over `linears`, those left dense among them.
  std::optional<double> MeanRelativeError() const;
  std::optional<double> MeanWeightedError() const;
};

}  // namespace rankine
