#include "kernels/cpu/machine_levels.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>

#include "kernels/base/math.h"
#include "kernels/cpu/huge_buffer.h"
#include "kernels/cpu/machine_loops.h"
#include "kernels/cpu/row_split.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/op_table.h"

namespace rankine {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kPage = 4096;
// Read by each thread between two looks at the clock: long beside a fork and join.
constexpr int64_t kBytesPerPass = 256 << 20;

// The first word of a file of /sys; empty when there is none.
std::string ReadWord(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "r");
  if (file == nullptr) return "";
  char word[32] = "";
  const int fields = std::fscanf(file, "%31s", word);
  std::fclose(file);
  return fields == 1 ? word : "";
}

// "1024K"
int64_t ParseSize(const std::string& text) {
  int64_t value = 0;
  char unit = ' ';
  if (std::sscanf(text.c_str(), "%ld%c", &value, &unit) < 1) return 0;
  return unit == 'K' ? value << 10 : unit == 'M' ? value << 20 : value;
}

// 0 where the system does not tell.
int64_t SysfsSize(const char* level) {
  for (int index = 0; index < 8; ++index) {
    const std::string folder =
        "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
    if (ReadWord(folder + "level") != level) continue;
    if (ReadWord(folder + "type") == "Instruction") continue;
    return ParseSize(ReadWord(folder + "size"));
  }
  return 0;
}

// sysconf asks the CPU itself, which in a virtual machine may tell of the whole host's cache.
int64_t CacheSize(int name, const char* level) {
  const int64_t size = SysfsSize(level);
  return size > 0 ? size : std::max<int64_t>(::sysconf(name), 0);
}

double PassSeconds(const char* data, int64_t stride, int64_t bytes, int streams, ReadFn read,
                   Stream stream) {
  std::atomic<uint64_t> sink{0};
  const auto start = Clock::now();
  auto work = [&](int thread) {
    uint64_t sum = 0;
    for (int64_t done = 0; done < kBytesPerPass; done += bytes) {
      sum ^= read(data + thread * stride, bytes, streams, 0);
    }
    sink.fetch_xor(sum, std::memory_order_relaxed);
  };
  OnThreads(stream, work);
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

CacheSizes HostCacheSizes() {
  return {.l1 = CacheSize(_SC_LEVEL1_DCACHE_SIZE, "1"),
          .l2 = CacheSize(_SC_LEVEL2_CACHE_SIZE, "2"),
          .l3 = CacheSize(_SC_LEVEL3_CACHE_SIZE, "3")};
}

double MeasureCachedBandwidth(Stream stream, int64_t bytes_per_thread, int repeats) {
  const int threads = stream.pool == nullptr ? 1 : stream.pool->num_threads();
  const int64_t bytes = RoundUp(std::max<int64_t>(bytes_per_thread, kPage), kPage);
  // Threads begin in different sets of their caches.
  const int64_t stride = bytes + kPage;
  HugeBuffer buffer(threads * stride);
  std::memset(buffer.data(), 1, static_cast<size_t>(threads * stride));
  const ReadFn read = FindCpuOps("avx512") != nullptr ? ReadAvx512 : ReadAvx2;
  double best = 1e30;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    for (const int streams : {1, 4, 8}) {
      best = std::min(best, PassSeconds(buffer.data(), stride, bytes, streams, read, stream));
    }
  }
  const int64_t passes = CeilDiv(kBytesPerPass, bytes);
  return static_cast<double>(threads * passes * bytes) / best;
}

}  // namespace rankine
