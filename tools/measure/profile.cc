#include "tools/measure/profile.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "kernels/cpu/machine_levels.h"
#include "kernels/cpu/machine_peak.h"
#include "kernels/cpu/thread_pool.h"
#include "tools/measure/statistics.h"

namespace rankine {
namespace {

// One fork and join of the pool with nothing to do.
double StepSeconds(ThreadPool* pool) {
  if (pool == nullptr) return 0;
  constexpr int kRuns = 200;
  std::vector<double> seconds;
  auto nothing = [](int) {};
  for (int i = 0; i < kRuns; ++i) {
    const auto start = std::chrono::steady_clock::now();
    pool->Run(nothing);
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return Median(seconds);
}

}  // namespace

DeviceProfile MeasureProfile(Device& device) {
  const Stream stream = device.stream();
  const int threads = stream.pool == nullptr ? 1 : stream.pool->num_threads();
  const CacheSizes caches = HostCacheSizes();
  DeviceProfile profile{.read_bytes_per_second = MeasureReadBandwidth(stream),
                        .f32_flops_per_second = MeasurePeakFlops(stream, FlopKind::kF32),
                        .bf16_flops_per_second = MeasurePeakFlops(stream, FlopKind::kBF16),
                        .int8_flops_per_second = MeasurePeakFlops(stream, FlopKind::kInt8),
                        .step_seconds = StepSeconds(stream.pool)};
  // Half of a cache, so that little else falls out of it.
  if (caches.l2 > 0) {
    profile.l2_bytes = threads * caches.l2;
    profile.l2_bytes_per_second = MeasureCachedBandwidth(stream, caches.l2 / 2);
  }
  if (caches.l3 > 0) {
    profile.l3_bytes = caches.l3 / 2;  // neighbours and other data share it
    profile.l3_bytes_per_second = MeasureCachedBandwidth(stream, caches.l3 / 2 / threads);
  }
  return profile;
}

}  // namespace rankine
