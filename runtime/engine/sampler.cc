#include "runtime/engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/cpu/thread_pool.h"
#include "runtime/engine/philox.h"

namespace rankine {
namespace {

constexpr float kMaxTemperature = 1000;
// Lanes of a scan: four vectors of AVX2, which hide the latency of a maximum.
constexpr int64_t kLanes = 32;
// The first guess of how many of the largest tokens reach top_p; it grows by kNucleusGrowth.
// Answers of trained models need a few, and selecting 64 costs little more than one scan.
constexpr int64_t kFirstNucleus = 64;
constexpr int64_t kNucleusGrowth = 16;

struct Candidate {
  float logit;
  int32_t id;
};

// Larger logits first; of equal ones the lower id.
bool Before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// The largest logit, or false when one is NaN or infinite. Lanes by hand: the compiler may not
// reorder a maximum of floats by itself.
bool ScanRow(const float* logits, int64_t n, float* max_logit) {
  constexpr uint32_t kExponent = 0x7f800000u;
  float best[kLanes];
  uint32_t bad[kLanes] = {};
  std::fill(best, best + kLanes, -std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const float v = logits[i + lane];
      best[lane] = v > best[lane] ? v : best[lane];
      bad[lane] |= (std::bit_cast<uint32_t>(v) & kExponent) == kExponent;
    }
  }
  for (int64_t lane = 0; i < n; ++i, ++lane) {
    best[lane] = std::max(best[lane], logits[i]);
    bad[lane] |= !std::isfinite(logits[i]);
  }
  *max_logit = *std::max_element(best, best + kLanes);
  return std::all_of(bad, bad + kLanes, [](uint32_t b) { return b == 0; });
}

int32_t FirstEqual(const float* logits, int64_t n, float value) {
  return static_cast<int32_t>(std::find(logits, logits + n, value) - logits);
}

// The probability of a token relative to the most probable one. Divided, not multiplied by an
// inverse that may overflow.
double RelativeProbability(float logit, float max_logit, float temperature) {
  return std::exp((logit - max_logit) / temperature);
}

// The `count` first of a row by Before, sorted. One scan: candidates gather in a buffer of twice
// the size, which is halved when full; from then on most logits fail one comparison.
void SelectTop(const float* logits, int64_t n, int64_t count, std::vector<Candidate>* top) {
  top->clear();
  float threshold = -std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < n; ++i) {
    // Ids rise, so a logit equal to the last one kept comes after it.
    if (logits[i] <= threshold) continue;
    top->push_back({logits[i], static_cast<int32_t>(i)});
    if (static_cast<int64_t>(top->size()) < 2 * count) continue;
    std::nth_element(top->begin(), top->begin() + (count - 1), top->end(), Before);
    top->resize(count);
    threshold = top->back().logit;
  }
  std::sort(top->begin(), top->end(), Before);
  if (static_cast<int64_t>(top->size()) > count) top->resize(count);
}

}  // namespace

absl::Status ValidateSampling(const SamplingParams& p) {
  // Written so that NaN fails.
  if (!(p.temperature >= 0 && p.temperature <= kMaxTemperature)) {
    return absl::InvalidArgumentError(absl::StrCat("temperature is ", p.temperature,
                                                   "; it must be 0 (greedy) to ", kMaxTemperature));
  }
  if (p.top_k < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("top_k is ", p.top_k, "; it must be 0 (off) or more"));
  }
  if (!(p.top_p > 0 && p.top_p <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("top_p is ", p.top_p, "; it must be above 0, and at most 1 (off)"));
  }
  if (!(p.min_p >= 0 && p.min_p <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("min_p is ", p.min_p, "; it must be 0 (off) to 1"));
  }
  return absl::OkStatus();
}

// Of one thread.
struct Sampler::Scratch {
  std::vector<Candidate> top;
  std::vector<double> weights;

  int32_t NextToken(const float* logits, int64_t n, const SampleRow& row);
  int32_t DrawFromAll(const float* logits, int64_t n, float max_logit, const SamplingParams& p,
                      double uniform);
  int32_t DrawFromTop(const float* logits, int64_t n, float max_logit, const SamplingParams& p,
                      double uniform);
  int64_t SelectNucleus(const float* logits, int64_t n, float max_logit, const SamplingParams& p);
  int64_t CutNucleus(double total, double top_p) const;
  void WeighTop(float max_logit, float temperature);
};

// Walks the weights until they exceed uniform x their sum. A token of weight 0 is never drawn.
static int64_t Draw(const std::vector<double>& weights, int64_t count, double uniform) {
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += weights[i];
  const double target = uniform * total;
  double sum = 0;
  int64_t last = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (weights[i] == 0) continue;
    sum += weights[i];
    last = i;
    if (sum > target) return i;
  }
  return last;
}

int32_t Sampler::Scratch::DrawFromAll(const float* logits, int64_t n, float max_logit,
                                      const SamplingParams& p, double uniform) {
  weights.resize(n);
  for (int64_t i = 0; i < n; ++i) {
    const double w = RelativeProbability(logits[i], max_logit, p.temperature);
    weights[i] = w >= p.min_p ? w : 0;
  }
  return static_cast<int32_t>(Draw(weights, n, uniform));
}

void Sampler::Scratch::WeighTop(float max_logit, float temperature) {
  weights.resize(std::max(weights.size(), top.size()));
  for (size_t i = 0; i < top.size(); ++i) {
    weights[i] = RelativeProbability(top[i].logit, max_logit, temperature);
  }
}

// How many of the weighed candidates reach top_p of `total`; 0 when all together don't.
int64_t Sampler::Scratch::CutNucleus(double total, double top_p) const {
  double sum = 0;
  for (size_t i = 0; i < top.size(); ++i) {
    sum += weights[i];
    if (sum >= top_p * total) return static_cast<int64_t>(i) + 1;
  }
  return 0;
}

// top_p without top_k: the total is over the whole vocabulary, but few tokens need sorting.
int64_t Sampler::Scratch::SelectNucleus(const float* logits, int64_t n, float max_logit,
                                        const SamplingParams& p) {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) {
    total += RelativeProbability(logits[i], max_logit, p.temperature);
  }
  for (int64_t guess = std::min(kFirstNucleus, n);; guess = std::min(guess * kNucleusGrowth, n)) {
    SelectTop(logits, n, guess, &top);
    WeighTop(max_logit, p.temperature);
    if (const int64_t count = CutNucleus(total, p.top_p); count > 0) return count;
    // Rounding of sums in different orders can leave the whole vocabulary just short.
    if (guess == n) return n;
  }
}

int32_t Sampler::Scratch::DrawFromTop(const float* logits, int64_t n, float max_logit,
                                      const SamplingParams& p, double uniform) {
  int64_t count = 0;
  if (p.top_k > 0) {
    SelectTop(logits, n, std::min<int64_t>(p.top_k, n), &top);
    WeighTop(max_logit, p.temperature);
    count = static_cast<int64_t>(top.size());
    if (p.top_p < 1) {
      double total = 0;
      for (int64_t i = 0; i < count; ++i) total += weights[i];
      count = CutNucleus(total, p.top_p);
    }
  } else {
    count = SelectNucleus(logits, n, max_logit, p);
  }
  while (count > 1 && weights[count - 1] < p.min_p) --count;
  return top[Draw(weights, count, uniform)].id;
}

int32_t Sampler::Scratch::NextToken(const float* logits, int64_t n, const SampleRow& row) {
  float max_logit = 0;
  if (!ScanRow(logits, n, &max_logit)) return kInvalidLogits;
  const SamplingParams& p = row.params;
  if (p.temperature == 0) return FirstEqual(logits, n, max_logit);
  const double uniform = RandomUniform(p.seed, row.index);
  if (p.top_k == 0 && p.top_p >= 1) return DrawFromAll(logits, n, max_logit, p, uniform);
  return DrawFromTop(logits, n, max_logit, p, uniform);
}

Sampler::Sampler(int64_t vocab_size) : vocab_size_(vocab_size) { RK_CHECK(vocab_size > 0); }
Sampler::~Sampler() = default;

void Sampler::Sample(const MatrixView& logits, const std::vector<SampleRow>& rows,
                     std::vector<int32_t>* token_ids, Stream stream) {
  const int64_t num_rows = static_cast<int64_t>(rows.size());
  RK_CHECK(logits.rows == num_rows && logits.cols == vocab_size_ && logits.dtype == DType::kF32);
  token_ids->resize(num_rows);
  const bool parallel = stream.pool != nullptr && num_rows > 1;
  const size_t num_threads = parallel ? stream.pool->num_threads() : 1;
  if (scratch_.size() < num_threads) scratch_.resize(num_threads);
  WorkQueue queue(num_rows, 1);
  auto work = [&](int thread) {
    int64_t begin = 0, end = 0;
    while (queue.Next(&begin, &end)) {
      for (int64_t i = begin; i < end; ++i) {
        (*token_ids)[i] =
            scratch_[thread].NextToken(logits.Row<const float>(i), vocab_size_, rows[i]);
      }
    }
  };
  if (parallel) {
    stream.pool->Run(work);
  } else {
    work(0);
  }
}

}  // namespace rankine
