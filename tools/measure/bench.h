// Speed of models measured side by side: prefill of one sequence and decode of one or several,
// interleaved over repetitions, beside the machine's read bandwidth measured in the same minutes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/loader.h"
#include "tools/measure/statistics.h"

namespace rankine {

// What one repetition gave for one model.
struct BenchSample {
  double prefill_tokens_per_second = 0;
  double decode_tokens_per_second = 0;  // of all sequences together
  double read_bandwidth_bytes_per_second = 0;
  double bandwidth_share = 0;
};

struct BenchOptions {
  int64_t prompt_tokens = 512;
  int64_t new_tokens = 64;
  int64_t sequences = 1;  // decoded together, each with a prompt of its own
  // Token ids of the prompt of all sequences, prompt_tokens of them; empty = random ones.
  std::vector<int32_t> prompt;
  int repeat = 5;
  // Called before each repetition: false ends the run. When set, `repeat` does not count.
  std::function<bool()> next;
  // Called after each repetition, with a sample for each model.
  std::function<void(const std::vector<BenchSample>& samples)> sampled;
  // Called with the share of the work that is done.
  std::function<void(double fraction, const std::string& what)> progress;
};

// A model to measure: loaded, with the dtype its KV cache will have.
struct BenchSubject {
  std::string path;
  const FactoredModel* model = nullptr;
  DType kv_dtype = DType::kF16;
  int64_t loaded_bytes = 0;  // RSS that loading it added
};

// Linear groups of a model, which run one after another, that do the same work for a token.
struct GroupWork {
  int64_t weight_bytes = 0;
  int64_t operations = 0;
  int64_t count = 0;
};

struct BenchResult {
  std::string path;
  double prefill_tokens_per_second = 0;  // medians
  double decode_tokens_per_second = 0;
  int64_t weight_bytes_per_token = 0;
  int64_t operations_per_token = 0;  // with weights
  std::vector<GroupWork> groups;
  // Read for one token of a decode step, on average over the new tokens.
  double kv_bytes_per_token = 0;
  // Of one step of all sequences: weights plus KV read per second over the read bandwidth of the
  // same repetition; median.
  double bandwidth_share = 0;
  int64_t resident_bytes = 0;  // RSS: weights, KV cache and activations
  Interval prefill_ratio;      // to the first model
  Interval decode_ratio;
};

struct BenchReport {
  double read_bandwidth_bytes_per_second = 0;  // median over repetitions of the best access pattern
  std::vector<BenchResult> models;
};

// kInvalidArgument when prompt and new tokens exceed a model's context, or the prompt its
// vocabulary.
absl::StatusOr<BenchReport> RunBench(const std::vector<BenchSubject>& subjects,
                                     const BenchOptions& options);

// Resident set of this process, in bytes.
int64_t ResidentBytes();

}  // namespace rankine
