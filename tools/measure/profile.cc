#include "tools/measure/profile.h"

#include <algorithm>
#include <cstdio>
#include <vector>

#include "kernels/api/quantized_rows.h"
#include "kernels/base/check.h"
#include "kernels/cpu/machine_levels.h"
#include "kernels/cpu/machine_peak.h"
#include "kernels/cpu/thread_pool.h"
#include "tools/measure/own_share.h"
#include "tools/measure/statistics.h"
#include "tools/measure/stopwatch.h"

namespace rankine {
namespace {

// One fork and join of the pool with nothing to do.
double StepSeconds(ThreadPool* pool) {
  if (pool == nullptr) return 0;
  constexpr int kRuns = 200;
  std::vector<double> seconds;
  auto nothing = [](int) {};
  for (int i = 0; i < kRuns; ++i) {
    const auto start = Clock::now();
    pool->Run(nothing);
    seconds.push_back(SecondsSince(start));
  }
  return Median(seconds);
}

struct Shape {
  int64_t tokens, n, k;
};

// Seconds of a product, the best of several; 0 without memory.
double ProductTime(Device& device, DType weights, DType x, Shape shape) {
  const auto [tokens, n, k] = shape;
  constexpr int kRuns = 7;
  const Encoding int8{.kind = EncodingKind::kAffine, .bits = 8, .group = 64};
  const bool blocks = weights == DType::kU8;
  const int64_t stride = blocks ? PackedBlockBytes(int8, k) : PackedBlockBytes(weights, k);
  const int64_t x_stride = x == DType::kI8 ? QuantizedRowBytes(k) : k;
  const auto element = x == DType::kI8 ? 1 : static_cast<int64_t>(SizeOf(x));
  auto w = Buffer::Allocate(device, n / kBlockRows * stride);
  auto in = Buffer::Allocate(device, tokens * x_stride * element);
  auto out = Buffer::Allocate(device, tokens * n * static_cast<int64_t>(sizeof(float)));
  if (!w.ok() || !in.ok() || !out.ok()) return 0;
  FillOperands(w->data(), n / kBlockRows * stride);
  FillOperands(in->data(), tokens * x_stride * element);
  const PackedCore core{.data = w->data(),
                        .dtype = weights,
                        .encoding = blocks ? int8 : Encoding{},
                        .n = n,
                        .k = k,
                        .block_stride = stride};
  const Product product{
      .weights = core,
      .x = {.data = in->data(), .dtype = x, .rows = tokens, .cols = k, .stride = x_stride},
      .y = {.data = out->data(), .rows = tokens, .cols = n, .stride = n}};
  double best = 1e30;
  for (int run = 0; run < kRuns; ++run) {
    const auto start = Clock::now();
    device.ops().products({.products = &product, .num_products = 1, .num_tokens = tokens},
                          device.stream());
    best = std::min(best, SecondsSince(start));
  }
  return best;
}

// In the middle of those that DeviceProfile calls few.
constexpr int64_t kFewTokens = DeviceProfile::kFewRows / 2;

// Operations per second of a product that is bound by arithmetic.
double ProductFlops(Device& device, DType weights, DType x, int64_t tokens = 256) {
  const Shape shape{tokens, 1024, 1024};
  return 2.0 * shape.tokens * shape.n * shape.k / ProductTime(device, weights, x, shape);
}

// Of 16 outputs: the difference of two products that differ in their outputs alone, and sum so
// little that epilogues and stores are most of it.
double StoreSeconds(Device& device, double flops) {
  constexpr Shape kFew{512, 64, 16}, kMany{512, 1024, 16};
  constexpr int64_t kOutputs = kMany.tokens * (kMany.n - kFew.n);
  const double seconds = ProductTime(device, DType::kBF16, DType::kBF16, kMany) -
                         ProductTime(device, DType::kBF16, DType::kBF16, kFew) -
                         2.0 * kOutputs * kMany.k / flops;
  return std::max(0.0, seconds) / (kOutputs / kBlockRows);
}

constexpr double DeviceProfile::*kRateFields[] = {
    &DeviceProfile::read_bytes_per_second,    &DeviceProfile::l3_bytes_per_second,
    &DeviceProfile::l2_bytes_per_second,      &DeviceProfile::f32_flops_per_second,
    &DeviceProfile::bf16_flops_per_second,    &DeviceProfile::int8_flops_per_second,
    &DeviceProfile::few_int8_flops_per_second};
// Takes each figure of `round` that is better; true when a rate was by more than a twentieth.
bool TakeBetter(const DeviceProfile& round, DeviceProfile* best) {
  constexpr double kNoise = 1.05;
  bool bettered = false;
  for (const auto rate : kRateFields) {
    bettered |= round.*rate > kNoise * (best->*rate);
    best->*rate = std::max(best->*rate, round.*rate);
  }
  best->step_seconds = std::min(best->step_seconds, round.step_seconds);
  return bettered;
}

}  // namespace

DeviceProfile MeasureProfile(Device& device) {
  const Stream stream = device.stream();
  const int64_t threads = stream.pool == nullptr ? 1 : stream.pool->num_threads();
  const CacheSizes caches = HostCacheSizes();
  DeviceProfile profile{
      .read_bytes_per_second = MeasureReadBandwidth(stream),
      .f32_flops_per_second = ProductFlops(device, DType::kF32, DType::kF32),
      .bf16_flops_per_second = ProductFlops(device, DType::kBF16, DType::kBF16),
      .int8_flops_per_second = ProductFlops(device, DType::kU8, DType::kI8),
      .few_int8_flops_per_second = ProductFlops(device, DType::kU8, DType::kI8, kFewTokens),
      .step_seconds = StepSeconds(stream.pool)};
  profile.store_seconds = StoreSeconds(device, profile.bf16_flops_per_second);
  // Half of a level, so that it holds what is read beside all else.
  profile.l2_bytes = caches.l2 / 2 * threads;
  profile.l2_bytes_per_second =
      caches.l2 > 0 ? MeasureCachedBandwidth(stream, caches.l2 / 2) : profile.read_bytes_per_second;
  profile.l3_bytes = std::max(profile.l2_bytes, caches.l3 / 2);
  profile.l3_bytes_per_second = caches.l3 > 0
                                    ? MeasureCachedBandwidth(stream, caches.l3 / 2 / threads)
                                    : profile.read_bytes_per_second;
  return profile;
}

SettledProfile MeasureSettledProfile(Device& device) {
  constexpr int kMaxRounds = 5;
  SettledProfile best;
  bool settled = false;
  for (int round = 0; round < kMaxRounds && !settled; ++round) {
    const double before = OwnShare(device.stream());
    const DeviceProfile profile = MeasureProfile(device);
    const double share = std::min(before, OwnShare(device.stream()));
    if (round == 0) best.profile = profile;
    const bool bettered = TakeBetter(profile, &best.profile);
    settled = round > 0 && !bettered && share >= kIdleShare;
    // A difference of two times: neither more nor less is better.
    if (share > best.own_share) best.profile.store_seconds = profile.store_seconds;
    best.own_share = std::max(best.own_share, share);
  }
  return best;
}

void WarnIfBusy(const SettledProfile& measured) {
  if (measured.own_share >= kIdleShare) return;
  std::fprintf(
      stderr,
      "note: other programs had part of the processor (%.0f%% was left) while this machine "
      "was measured; run `rankine profile` when it is idle\n",
      100 * measured.own_share);
}

}  // namespace rankine
