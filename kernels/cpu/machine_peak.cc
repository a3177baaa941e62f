#include "kernels/cpu/machine_peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "kernels/base/math.h"
#include "kernels/cpu/machine_loops.h"
#include "kernels/cpu/row_split.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/op_table.h"

namespace rankine {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

bool Has(const char* table) { return FindCpuOps(table) != nullptr; }

// Chunks of `chunk_bytes` are handed out in turn; a chunk is read as `streams` runs.
struct Pattern {
  int64_t chunk_bytes;
  int streams;
  int64_t prefetch;
};

constexpr Pattern kPatterns[] = {
    {4 << 20, 1, 0},       // a plain loop
    {4 << 20, 1, 2048},    //
    {4 << 20, 4, 1024},    //
    {4 << 20, 8, 1024},    //
    {256 << 10, 4, 2048},  //
    {64 << 10, 2, 2048},   //
    {64 << 10, 1, 4096},   //
};

double PassSeconds(const char* data, int64_t bytes, const Pattern& pattern, ReadFn read,
                   Stream stream) {
  std::atomic<uint64_t> sink{0};
  WorkQueue queue(bytes / pattern.chunk_bytes, 1);
  const auto start = Clock::now();
  OnThreads(stream, [&](int) {
    int64_t begin, end;
    uint64_t sum = 0;
    while (queue.Next(&begin, &end)) {
      sum ^= read(data + begin * pattern.chunk_bytes, pattern.chunk_bytes, pattern.streams,
                  pattern.prefetch);
    }
    sink.fetch_xor(sum, std::memory_order_relaxed);
  });
  return SecondsSince(start);
}

FlopsFn FlopsLoop(FlopKind kind) {
  switch (kind) {
    case FlopKind::kInt8:
      if (Has("amx")) return DotInt8Amx;
      return Has("avx512-vnni") ? DotInt8Avx512 : DotInt8Avx2;
    case FlopKind::kBF16:
      if (Has("amx")) return DotBF16Amx;
      if (&BestCpuOps() == FindCpuOps("avx512-bf16")) return DotBF16Avx512;
      [[fallthrough]];
    case FlopKind::kF32:
      break;
  }
  return Has("avx512") ? FmaAvx512 : FmaAvx2;
}

}  // namespace

ReadProbe::ReadProbe(int64_t bytes)
    : buffer_(RoundUp(bytes, 4 << 20)), bytes_(RoundUp(bytes, 4 << 20)) {
  std::memset(buffer_.data(), 1, bytes_);  // pages that were never written share one zero page
}

double ReadProbe::Measure(Stream stream, int repeats) {
  const ReadFn read = Has("avx512") ? ReadAvx512 : ReadAvx2;
  double best = 1e30;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    for (const Pattern& pattern : kPatterns) {
      best = std::min(best, PassSeconds(buffer_.data(), bytes_, pattern, read, stream));
    }
  }
  return static_cast<double>(bytes_) / best;
}

double MeasureReadBandwidth(Stream stream, int repeats) {
  ReadProbe probe;
  return probe.Measure(stream, repeats);
}

void FillOperands(void* data, int64_t bytes) {
  auto* values = static_cast<uint16_t*>(data);
  uint32_t state = 1;
  for (int64_t i = 0; i < bytes / 2; ++i) {
    state = state * 1664525 + 1013904223;
    values[i] = static_cast<uint16_t>(0x3f80 | (state >> 16 & 0x807f));
  }
}

double MeasurePeakFlops(Stream stream, FlopKind kind, int repeats) {
  const FlopsFn loop = FlopsLoop(kind);
  // 12 multiply-adds a round, one or two a cycle: some 10 to 20 ms.
  constexpr int64_t kRounds = 5'000'000;
  double best = 0;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    std::atomic<double> operations{0};
    const auto start = Clock::now();
    OnThreads(stream, [&](int) {
      float sink[3] = {1.0f, 0.5f, 0.0f};
      operations.fetch_add(loop(kRounds, sink));
    });
    best = std::max(best, operations.load() / SecondsSince(start));
  }
  return best;
}

}  // namespace rankine
