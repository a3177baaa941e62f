// Attention against the machine: a long prompt's GFLOP/s over the f32 peak, one token's GB/s of
// keys and values over the read bandwidth. Peak and bandwidth are measured interleaved with what is
// judged; decode walks over sequences that together exceed the last-level cache.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/base/math.h"
#include "kernels/cpu/huge_buffer.h"
#include "kernels/cpu/machine_peak.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/op_table.h"

namespace rankine {
namespace {

using Clock = std::chrono::steady_clock;

// Several times the last-level cache of the machines we know.
constexpr int64_t kCacheBytes = 256 << 20;

struct Case {
  const OpTable* ops;
  int64_t num_heads, kv_heads, head_dim;
  DType dtype;
  int64_t context;  // tokens of each sequence
  int64_t tokens;   // of which new
};

// RANKINE_BENCH_THREADS sets the number of threads.
ThreadPool& Pool() {
  static ThreadPool pool([] {
    const char* threads = std::getenv("RANKINE_BENCH_THREADS");
    return threads != nullptr ? std::max(1, std::atoi(threads)) : DefaultNumThreads();
  }());
  return pool;
}

// Small values of either sign, from a linear congruential generator.
float NextValue(uint64_t* state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<float>(*state >> 40) * 0x1p-23f - 1.0f;
}

void Fill(char* data, int64_t count, DType dtype) {
  uint64_t state = 1;
  for (int64_t i = 0; i < count; ++i) {
    const float value = NextValue(&state);
    if (dtype == DType::kF32) reinterpret_cast<float*>(data)[i] = value;
    if (dtype == DType::kF16) reinterpret_cast<F16*>(data)[i] = ToF16(value);
    if (dtype == DType::kBF16) reinterpret_cast<BF16*>(data)[i] = ToBF16(value);
    if (dtype == DType::kI8) data[i] = static_cast<char>(static_cast<int8_t>(value * 127.0f));
  }
}

// A cache with room for several sequences, and one call's activations and workspace.
struct Setup {
  explicit Setup(const Case& c)
      : blocks(CeilDiv(c.context, kKvBlockTokens)),
        elements(blocks * kKvBlockTokens * c.kv_heads * c.head_dim),
        bytes(2 * elements * static_cast<int64_t>(SizeOf(c.dtype))),
        copies(c.tokens > 1 ? 1 : std::max<int64_t>(1, kCacheBytes / bytes)),
        keys(copies * bytes / 2),
        values(copies * bytes / 2),
        scales(copies * blocks * kKvBlockTokens * c.kv_heads * int64_t{sizeof(float)}),
        q(c.tokens * Columns(c) * int64_t{sizeof(float)}),
        out(c.tokens * Columns(c) * int64_t{sizeof(float)}),
        workspace(AttentionWorkspaceBytes(c.tokens, c.context, c.num_heads, c.head_dim,
                                          Pool().num_threads())) {
    Fill(keys.data(), copies * elements, c.dtype);
    Fill(values.data(), copies * elements, c.dtype);
    Fill(q.data(), c.tokens * Columns(c), DType::kF32);
    float* scale = reinterpret_cast<float*>(scales.data());
    std::fill(scale, scale + copies * blocks * kKvBlockTokens * c.kv_heads, 0.01f);
    for (int64_t b = 0; b < copies * blocks; ++b) ids.push_back(static_cast<int32_t>(b));
  }
  static int64_t Columns(const Case& c) { return RoundUp(c.num_heads * c.head_dim, kColumnPad); }
  MatrixView Rows(const Case& c, const HugeBuffer& buffer) const {
    return {.data = buffer.data(),
            .dtype = DType::kF32,
            .rows = c.tokens,
            .cols = c.num_heads * c.head_dim,
            .stride = Columns(c)};
  }
  void Run(const Case& c, int64_t index) {
    const AttentionSequence sequence{.block_ids = ids.data() + index % copies * blocks,
                                     .first_row = 0,
                                     .num_tokens = c.tokens,
                                     .first_position = c.context - c.tokens};
    const bool scaled = c.dtype == DType::kI8;
    float* scale = scaled ? reinterpret_cast<float*>(scales.data()) : nullptr;
    c.ops->attention({.q = Rows(c, q),
                      .out = Rows(c, out),
                      .sequences = &sequence,
                      .num_sequences = 1,
                      .num_heads = c.num_heads,
                      .scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim)),
                      .cache = {.keys = keys.data(),
                                .values = values.data(),
                                .key_scales = scale,
                                .value_scales = scale,
                                .dtype = c.dtype,
                                .num_blocks = copies * blocks,
                                .kv_heads = c.kv_heads,
                                .head_dim = c.head_dim},
                      .workspace = workspace.data()},
                     Stream{&Pool()});
  }

  int64_t blocks, elements, bytes, copies;
  HugeBuffer keys, values, scales, q, out, workspace;
  std::vector<int32_t> ids;
};

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

void AttentionCase(benchmark::State& state, Case c) {
  const Stream stream{&Pool()};
  static ReadProbe probe;
  Setup setup(c);
  const bool decode = c.tokens == 1;
  double limit = 0;  // bytes or operations per second
  std::vector<double> seconds;
  double since = 1;
  int64_t index = 0;
  for (auto _ : state) {
    if (since > 0.1) {
      since = 0;
      limit = std::max(
          limit, decode ? probe.Measure(stream) : MeasurePeakFlops(stream, FlopKind::kF32, 1));
    }
    const auto start = Clock::now();
    setup.Run(c, index++);
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    since += seconds.back();
    state.SetIterationTime(seconds.back());
  }
  // Of the prompt only what lies at or before each token counts.
  const double pairs = static_cast<double>(c.tokens) *
                       (static_cast<double>(c.context) - (static_cast<double>(c.tokens) - 1) / 2);
  const double work = decode ? static_cast<double>(setup.bytes)
                             : 4.0 * pairs * static_cast<double>(c.num_heads * c.head_dim);
  const double fastest = *std::min_element(seconds.begin(), seconds.end());
  state.counters[decode ? "GB/s" : "GFLOP/s"] = work / Median(seconds) * 1e-9;
  state.counters[decode ? "of_bandwidth" : "of_peak"] = work / Median(seconds) / limit;
  // On a machine that others use too: the fastest run, to the best probe.
  state.counters[decode ? "best_of_bandwidth" : "best_of_peak"] = work / fastest / limit;
}

bool RegisterAll() {
  // Few heads: runs shorter than a time slice, so that a busy machine does not tell against them.
  for (const OpTable* ops : CpuOpTables()) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
      for (const Case& c :
           {Case{ops, 9, 3, 64, dtype, 512, 512}, Case{ops, 32, 8, 128, dtype, 512, 512},
            Case{ops, 9, 3, 64, dtype, 4096, 1}, Case{ops, 32, 8, 128, dtype, 4096, 1},
            Case{ops, 4, 4, 128, dtype, 4096, 1}}) {
        const std::string name = std::string("attention/") + ops->name + "/heads_" +
                                 std::to_string(c.num_heads) + "_" + std::to_string(c.kv_heads) +
                                 "_" + std::to_string(c.head_dim) + "/kv_" +
                                 std::string(Name(dtype)) + "/context_" +
                                 std::to_string(c.context) + "/tokens_" + std::to_string(c.tokens);
        benchmark::RegisterBenchmark(name.c_str(), AttentionCase, c)
            ->UseManualTime()
            ->Unit(benchmark::kMicrosecond);
      }
    }
  }
  return true;
}

[[maybe_unused]] const bool registered = RegisterAll();

}  // namespace
}  // namespace rankine
