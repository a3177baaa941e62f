#include "tools/measure/profile.h"

#include <algorithm>
#include <chrono>
#include <vector>

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
  return {.read_bytes_per_second = MeasureReadBandwidth(stream),
          .f32_flops_per_second = MeasurePeakFlops(stream, FlopKind::kF32),
          .bf16_flops_per_second = MeasurePeakFlops(stream, FlopKind::kBF16),
          .step_seconds = StepSeconds(stream.pool)};
}

}  // namespace rankine
