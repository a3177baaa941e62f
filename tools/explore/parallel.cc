#include "tools/explore/parallel.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "kernels/cpu/thread_pool.h"

namespace rankine {

absl::Status RunInParallel(size_t count, int threads,
                           const std::function<absl::Status(size_t)>& work) {
  std::vector<absl::Status> statuses(count);
  std::atomic<size_t> next{0};
  auto run = [&] {
    for (size_t i = next++; i < count; i = next++) statuses[i] = work(i);
  };
  const size_t workers = threads > 0 ? threads : DefaultNumThreads();
  std::vector<std::thread> helpers;
  for (size_t t = 1; t < std::min(workers, count); ++t) helpers.emplace_back(run);
  run();
  for (std::thread& helper : helpers) helper.join();
  for (absl::Status& status : statuses) {
    if (!status.ok()) return std::move(status);
  }
  return absl::OkStatus();
}

}  // namespace rankine
