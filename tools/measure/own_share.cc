#include "tools/measure/own_share.h"

#include <time.h>

#include <chrono>

#include "kernels/cpu/row_split.h"
#include "kernels/cpu/thread_pool.h"

namespace rankine {
namespace {

double ThreadCpuSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace

double OwnShare(Stream stream) {
  constexpr double kSeconds = 0.02;
  const auto start = std::chrono::steady_clock::now();
  OnThreads(stream, [](int) {
    const double end = ThreadCpuSeconds() + kSeconds;
    while (ThreadCpuSeconds() < end) {
    }
  });
  return kSeconds / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace rankine
