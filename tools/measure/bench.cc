#include "tools/measure/bench.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <numeric>
#include <optional>
#include <random>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/cpu/machine_peak.h"

namespace rankine {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kChunkTokens = 512;
// Passes of each access pattern before each sample: some 100 ms, best of three.
constexpr int kProbeRepeats = 3;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// One model with its cache and activations: a sequence that can be run again and again.
class Runner {
 public:
  static absl::StatusOr<std::unique_ptr<Runner>> Create(const BenchSubject& subject,
                                                        const BenchOptions& options);

  double PrefillSeconds();
  // Continues after a prefill.
  double DecodeSeconds();
  double KvBytesPerStep() const;

 private:
  int32_t Step(const int32_t* tokens, int64_t count, int64_t position);

  const FactoredModel* model_ = nullptr;
  BenchOptions options_;
  std::optional<KvCache> cache_;
  std::unique_ptr<Workspace> workspace_;
  std::vector<int32_t> block_ids_, prompt_;
  BatchInput batch_;
  int32_t next_ = 0;
};

absl::StatusOr<std::unique_ptr<Runner>> Runner::Create(const BenchSubject& subject,
                                                       const BenchOptions& options) {
  const ModelShape& shape = subject.model->shape();
  const int64_t tokens = options.prompt_tokens + options.new_tokens;
  if (options.prompt_tokens < 1 || options.new_tokens < 1 || tokens > shape.max_position) {
    return absl::InvalidArgumentError(absl::StrCat(
        subject.path, ": ", options.prompt_tokens, " prompt tokens and ", options.new_tokens,
        " new ones do not fit its context of ", shape.max_position, " tokens"));
  }
  auto runner = std::make_unique<Runner>();
  runner->model_ = subject.model;
  runner->options_ = options;
  const int64_t blocks = CeilDiv(tokens, kKvBlockTokens);
  auto cache = KvCache::Create(subject.model->device(), {.num_layers = shape.num_layers,
                                                         .kv_heads = shape.kv_heads,
                                                         .head_dim = shape.head_dim,
                                                         .num_blocks = blocks,
                                                         .dtype = subject.kv_dtype});
  if (!cache.ok()) return cache.status();
  runner->cache_ = *std::move(cache);
  auto workspace =
      subject.model->NewWorkspace({.max_tokens = std::min(kChunkTokens, options.prompt_tokens),
                                   .max_logit_rows = 1,
                                   .max_context = tokens});
  if (!workspace.ok()) return workspace.status();
  runner->workspace_ = *std::move(workspace);
  runner->block_ids_.resize(blocks);
  std::iota(runner->block_ids_.begin(), runner->block_ids_.end(), 0);
  std::mt19937 random(1);
  std::uniform_int_distribution<int32_t> pick(0, static_cast<int32_t>(shape.vocab_size) - 1);
  for (int64_t i = 0; i < options.prompt_tokens; ++i) runner->prompt_.push_back(pick(random));
  return runner;
}

// Runs `count` tokens at `position` and returns the greedy next token.
int32_t Runner::Step(const int32_t* tokens, int64_t count, int64_t position) {
  batch_.Clear();
  batch_.AddSequence(tokens, count, position, block_ids_.data());
  batch_.logit_rows.push_back(static_cast<int32_t>(count) - 1);
  const MatrixView logits = Forward(*model_, batch_, &*cache_, *workspace_);
  const float* row = logits.Row<float>(0);
  return static_cast<int32_t>(std::max_element(row, row + logits.cols) - row);
}

double Runner::PrefillSeconds() {
  const Clock::time_point start = Clock::now();
  for (int64_t done = 0; done < options_.prompt_tokens; done += kChunkTokens) {
    next_ =
        Step(prompt_.data() + done, std::min(kChunkTokens, options_.prompt_tokens - done), done);
  }
  return SecondsSince(start);
}

double Runner::DecodeSeconds() {
  const Clock::time_point start = Clock::now();
  for (int64_t i = 0; i < options_.new_tokens; ++i) {
    const int32_t token = next_;
    next_ = Step(&token, 1, options_.prompt_tokens + i);
  }
  return SecondsSince(start);
}

double Runner::KvBytesPerStep() const {
  const double context = static_cast<double>(options_.prompt_tokens) +
                         static_cast<double>(options_.new_tokens + 1) / 2;
  return context * static_cast<double>(KvCache::BytesPerToken(cache_->options()));
}

struct Samples {
  std::vector<double> prefill, decode, share;
};

BenchResult Summarise(const BenchSubject& subject, const Runner& runner, const Samples& own,
                      const Samples& first) {
  return {.path = subject.path,
          .prefill_tokens_per_second = Median(own.prefill),
          .decode_tokens_per_second = Median(own.decode),
          .weight_bytes_per_token = subject.model->weight_bytes_per_token(),
          .kv_bytes_per_token = runner.KvBytesPerStep(),
          .bandwidth_share = Median(own.share),
          .prefill_ratio = PairedRatio(own.prefill, first.prefill),
          .decode_ratio = PairedRatio(own.decode, first.decode)};
}

}  // namespace

int64_t ResidentBytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  long long total = 0, resident = 0;
  const int fields = std::fscanf(file, "%lld %lld", &total, &resident);
  std::fclose(file);
  return fields == 2 ? resident * sysconf(_SC_PAGESIZE) : 0;
}

absl::StatusOr<BenchReport> RunBench(const std::vector<BenchSubject>& subjects,
                                     const BenchOptions& options) {
  std::vector<std::unique_ptr<Runner>> runners;
  std::vector<int64_t> added_bytes;
  for (const BenchSubject& subject : subjects) {
    const int64_t before = ResidentBytes();
    auto runner = Runner::Create(subject, options);
    if (!runner.ok()) return runner.status();
    runners.push_back(*std::move(runner));
    // Warms up, and touches all that the model needs.
    runners.back()->PrefillSeconds();
    runners.back()->DecodeSeconds();
    added_bytes.push_back(ResidentBytes() - before);
  }
  ReadProbe probe;
  std::vector<Samples> samples(subjects.size());
  std::vector<double> bandwidths;
  const auto tokens = static_cast<double>(options.new_tokens);
  for (int repetition = 0; repetition < options.repeat; ++repetition) {
    for (size_t i = 0; i < subjects.size(); ++i) {
      if (options.progress) {
        options.progress(static_cast<double>(repetition * subjects.size() + i) /
                             static_cast<double>(options.repeat * subjects.size()),
                         subjects[i].path);
      }
      const double bandwidth = probe.Measure(subjects[i].model->device().stream(), kProbeRepeats);
      bandwidths.push_back(bandwidth);
      samples[i].prefill.push_back(static_cast<double>(options.prompt_tokens) /
                                   runners[i]->PrefillSeconds());
      samples[i].decode.push_back(tokens / runners[i]->DecodeSeconds());
      const double bytes = static_cast<double>(subjects[i].model->weight_bytes_per_token()) +
                           runners[i]->KvBytesPerStep();
      samples[i].share.push_back(samples[i].decode.back() * bytes / bandwidth);
    }
  }
  BenchReport report{.read_bandwidth_bytes_per_second = Median(bandwidths)};
  for (size_t i = 0; i < subjects.size(); ++i) {
    report.models.push_back(Summarise(subjects[i], *runners[i], samples[i], samples[0]));
    report.models.back().resident_bytes = subjects[i].loaded_bytes + added_bytes[i];
  }
  return report;
}

}  // namespace rankine
