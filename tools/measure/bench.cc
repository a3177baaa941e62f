#include "tools/measure/bench.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <random>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/cpu/machine_peak.h"
#include "tools/measure/stopwatch.h"

namespace rankine {
namespace {

constexpr int64_t kChunkTokens = 512;
// Passes of each access pattern before each sample: some 100 ms, best of three.
constexpr int kProbeRepeats = 3;

// One model with its cache and activations: sequences that can be run again and again.
class Runner {
 public:
  static absl::StatusOr<std::unique_ptr<Runner>> Create(const BenchSubject& subject,
                                                        const BenchOptions& options);

  double PrefillSeconds();
  // Continues after a prefill.
  double DecodeSeconds();
  double KvBytesPerToken() const;

 private:
  const int32_t* BlocksOf(int64_t sequence) const {
    return block_ids_.data() + sequence * blocks_per_sequence_;
  }
  // Runs the batch; the greedy next token of each logit row goes to `next`.
  void Step(int32_t* next);

  const FactoredModel* model_ = nullptr;
  BenchOptions options_;
  std::optional<KvCache> cache_;
  std::unique_ptr<Workspace> workspace_;
  int64_t blocks_per_sequence_ = 0;
  std::vector<int32_t> block_ids_, prompt_;  // of all sequences
  BatchInput batch_;
  std::vector<int32_t> next_;  // of each sequence
};

absl::Status CheckPrompt(const BenchSubject& subject, const BenchOptions& options) {
  if (static_cast<int64_t>(options.prompt.size()) != options.prompt_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("the prompt has ", options.prompt.size(),
                                                   " tokens, not ", options.prompt_tokens));
  }
  for (const int32_t token : options.prompt) {
    if (token >= 0 && token < subject.model->shape().vocab_size) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(subject.path, ": token ", token, " of the prompt is outside its vocabulary"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Runner>> Runner::Create(const BenchSubject& subject,
                                                       const BenchOptions& options) {
  if (subject.model->shape().is_encoder) {
    return absl::InvalidArgumentError(absl::StrCat(
        subject.path, " is an encoder, which generates nothing: it has no decode speed"));
  }
  const ModelShape& shape = subject.model->shape();
  const int64_t tokens = options.prompt_tokens + options.new_tokens;
  if (options.prompt_tokens < 1 || options.new_tokens < 1 || options.sequences < 1 ||
      tokens > shape.max_position) {
    return absl::InvalidArgumentError(absl::StrCat(
        subject.path, ": ", options.prompt_tokens, " prompt tokens and ", options.new_tokens,
        " new ones do not fit its context of ", shape.max_position, " tokens"));
  }
  auto runner = std::make_unique<Runner>();
  runner->model_ = subject.model;
  runner->options_ = options;
  runner->blocks_per_sequence_ = CeilDiv(tokens, kKvBlockTokens);
  const int64_t blocks = options.sequences * runner->blocks_per_sequence_;
  auto cache = KvCache::Create(subject.model->device(), {.num_layers = shape.num_layers,
                                                         .kv_heads = shape.kv_heads,
                                                         .head_dim = shape.head_dim,
                                                         .num_blocks = blocks,
                                                         .dtype = subject.kv_dtype});
  if (!cache.ok()) return cache.status();
  runner->cache_ = *std::move(cache);
  auto workspace = subject.model->NewWorkspace(
      {.max_tokens = std::max(options.sequences, std::min(kChunkTokens, options.prompt_tokens)),
       .max_logit_rows = options.sequences,
       .max_context = tokens});
  if (!workspace.ok()) return workspace.status();
  runner->workspace_ = *std::move(workspace);
  runner->block_ids_.resize(blocks);
  std::iota(runner->block_ids_.begin(), runner->block_ids_.end(), 0);
  if (!options.prompt.empty()) {
    if (auto status = CheckPrompt(subject, options); !status.ok()) return status;
  }
  std::mt19937 random(1);
  std::uniform_int_distribution<int32_t> pick(0, static_cast<int32_t>(shape.vocab_size) - 1);
  runner->prompt_.resize(options.sequences * options.prompt_tokens);
  for (size_t i = 0; i < runner->prompt_.size(); ++i) {
    runner->prompt_[i] =
        options.prompt.empty() ? pick(random) : options.prompt[i % options.prompt.size()];
  }
  runner->next_.resize(options.sequences);
  return runner;
}

void Runner::Step(int32_t* next) {
  const MatrixView logits = Forward(*model_, batch_, &*cache_, *workspace_);
  for (int64_t i = 0; i < batch_.num_logits(); ++i) {
    const float* row = logits.Row<float>(i);
    next[i] = static_cast<int32_t>(std::max_element(row, row + logits.cols) - row);
  }
}

// Of one sequence: the time of all over their number.
double Runner::PrefillSeconds() {
  const Clock::time_point start = Clock::now();
  for (int64_t s = 0; s < options_.sequences; ++s) {
    const int32_t* prompt = prompt_.data() + s * options_.prompt_tokens;
    for (int64_t done = 0; done < options_.prompt_tokens; done += kChunkTokens) {
      const int64_t count = std::min(kChunkTokens, options_.prompt_tokens - done);
      batch_.Clear();
      batch_.AddSequence(prompt + done, count, done, BlocksOf(s));
      batch_.logit_rows.push_back(static_cast<int32_t>(count) - 1);
      Step(&next_[s]);
    }
  }
  return SecondsSince(start) / static_cast<double>(options_.sequences);
}

double Runner::DecodeSeconds() {
  const Clock::time_point start = Clock::now();
  for (int64_t i = 0; i < options_.new_tokens; ++i) {
    batch_.Clear();
    for (int64_t s = 0; s < options_.sequences; ++s) {
      batch_.AddSequence(&next_[s], 1, options_.prompt_tokens + i, BlocksOf(s));
      batch_.logit_rows.push_back(static_cast<int32_t>(s));
    }
    Step(next_.data());
  }
  return SecondsSince(start);
}

double Runner::KvBytesPerToken() const {
  const double context = static_cast<double>(options_.prompt_tokens) +
                         static_cast<double>(options_.new_tokens + 1) / 2;
  return context * static_cast<double>(KvCache::BytesPerToken(cache_->options()));
}

BenchSample Measure(const BenchSubject& subject, Runner& runner, ReadProbe& probe,
                    const BenchOptions& options) {
  const auto sequences = static_cast<double>(options.sequences);
  BenchSample sample;
  sample.read_bandwidth_bytes_per_second =
      probe.Measure(subject.model->device().stream(), kProbeRepeats);
  sample.prefill_tokens_per_second =
      static_cast<double>(options.prompt_tokens) / runner.PrefillSeconds();
  const double steps = static_cast<double>(options.new_tokens) / runner.DecodeSeconds();
  sample.decode_tokens_per_second = steps * sequences;
  const double bytes = static_cast<double>(subject.model->weight_bytes_per_token()) +
                       sequences * runner.KvBytesPerToken();
  sample.bandwidth_share = steps * bytes / sample.read_bandwidth_bytes_per_second;
  return sample;
}

std::vector<double> Column(const std::vector<BenchSample>& samples, double BenchSample::*field) {
  std::vector<double> column;
  for (const BenchSample& sample : samples) column.push_back(sample.*field);
  return column;
}

std::vector<GroupWork> WorkOf(const FactoredModel& model) {
  std::map<std::pair<int64_t, int64_t>, int64_t> counts;
  for (const LinearGroup* group : model.groups())
    ++counts[{group->plan().weight_bytes(), group->plan().operations_per_token()}];
  std::vector<GroupWork> work;
  for (const auto& [of_one, count] : counts) work.push_back({of_one.first, of_one.second, count});
  return work;
}

BenchResult Summarise(const BenchSubject& subject, const Runner& runner,
                      const std::vector<BenchSample>& own, const std::vector<BenchSample>& first) {
  const auto prefill = Column(own, &BenchSample::prefill_tokens_per_second);
  const auto decode = Column(own, &BenchSample::decode_tokens_per_second);
  return {
      .path = subject.path,
      .prefill_tokens_per_second = Median(prefill),
      .decode_tokens_per_second = Median(decode),
      .weight_bytes_per_token = subject.model->weight_bytes_per_token(),
      .operations_per_token = subject.model->operations_per_token(),
      .groups = WorkOf(*subject.model),
      .kv_bytes_per_token = runner.KvBytesPerToken(),
      .bandwidth_share = Median(Column(own, &BenchSample::bandwidth_share)),
      .prefill_ratio = PairedRatio(prefill, Column(first, &BenchSample::prefill_tokens_per_second)),
      .decode_ratio = PairedRatio(decode, Column(first, &BenchSample::decode_tokens_per_second))};
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
  std::vector<std::vector<BenchSample>> samples(subjects.size());  // by model
  std::vector<double> bandwidths;
  for (int repetition = 0; options.next ? options.next() : repetition < options.repeat;
       ++repetition) {
    std::vector<BenchSample> now;
    for (size_t i = 0; i < subjects.size(); ++i) {
      if (options.progress && !options.next) {
        options.progress(static_cast<double>(repetition * subjects.size() + i) /
                             static_cast<double>(options.repeat * subjects.size()),
                         subjects[i].path);
      }
      now.push_back(Measure(subjects[i], *runners[i], probe, options));
      samples[i].push_back(now.back());
      bandwidths.push_back(now.back().read_bandwidth_bytes_per_second);
    }
    if (options.sampled) options.sampled(now);
  }
  BenchReport report{.read_bandwidth_bytes_per_second = Median(bandwidths)};
  for (size_t i = 0; i < subjects.size(); ++i) {
    report.models.push_back(Summarise(subjects[i], *runners[i], samples[i], samples[0]));
    report.models.back().resident_bytes = subjects[i].loaded_bytes + added_bytes[i];
  }
  return report;
}

}  // namespace rankine
