// The randomised Hadamard transform of rows in the caches: nanoseconds an element, and bytes of x
// and of the result over time. Sizes with their orthogonal blocks: SmolLM2's 576 = 9 x 64 and 1536
// = 3 x 512, powers of two, Llama 2's 11008 = 43 x 256.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/api/quantized_rows.h"
#include "kernels/cpu/huge_buffer.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/op_table.h"

namespace rankine {
namespace {

// RANKINE_BENCH_THREADS sets the number of threads.
ThreadPool& Pool() {
  static ThreadPool pool([] {
    const char* threads = std::getenv("RANKINE_BENCH_THREADS");
    return threads != nullptr ? std::max(1, std::atoi(threads)) : DefaultNumThreads();
  }());
  return pool;
}

struct Case {
  const OpTable* ops;
  int64_t columns, rows;
  bool quantized;  // to i8, as an input transform; otherwise f32, added to what is there
};

int64_t OddPart(int64_t n) {
  while (n % 2 == 0) n /= 2;
  return n;
}

void TransformCase(benchmark::State& state, Case c) {
  const int64_t n = c.columns, b = OddPart(n), stride = RoundUp(n, kColumnPad);
  const std::vector<float> signs(stride, -1.0f);
  // Small, so that sums neither grow nor become denormal.
  const std::vector<float> block(b * b, 0.01f), x(c.rows * stride, 0.5f);
  std::vector<float> scratch(c.rows * stride), out(c.rows * stride);
  HugeBuffer records(c.rows * QuantizedRowBytes(n));
  const auto view = [&](const void* data) {
    return MatrixView{const_cast<void*>(data), DType::kF32, c.rows, n, stride};
  };
  HadamardArgs args{.x = view(x.data()),
                    .signs = signs.data(),
                    .block = b == 1 ? nullptr : block.data(),
                    .block_size = b,
                    .transposed = !c.quantized,
                    .accumulate = !c.quantized,
                    .scratch = view(scratch.data())};
  if (c.quantized) {
    args.quantized = {records.data(), DType::kI8, c.rows, n, QuantizedRowBytes(n)};
  } else {
    args.out = view(out.data());
  }
  for (auto _ : state) {
    c.ops->hadamard(args, Stream{&Pool()});
    benchmark::ClobberMemory();
  }
  const auto elements = static_cast<double>(c.rows * n * static_cast<int64_t>(state.iterations()));
  using benchmark::Counter;
  state.counters["ns/element"] = Counter(elements * 1e-9, Counter::kIsRate | Counter::kInvert);
  const double bytes = c.quantized ? 4 + 1.5 : 4 + 4 + 4;
  state.counters["GB/s"] = Counter(elements * bytes * 1e-9, Counter::kIsRate);
}

bool RegisterAll() {
  for (const OpTable* ops : {FindCpuOps("avx2"), FindCpuOps("avx512")}) {
    if (ops == nullptr) continue;
    for (const int64_t columns : {576, 1536, 2048, 4096, 11008}) {
      for (const int64_t rows : {1, 8, 64, 512}) {
        for (const bool quantized : {true, false}) {
          const std::string name = std::string("hadamard/") + ops->name + "/" +
                                   std::to_string(columns) + (quantized ? "/to_i8" : "/added") +
                                   "/rows_" + std::to_string(rows);
          benchmark::RegisterBenchmark(name.c_str(), TransformCase,
                                       Case{ops, columns, rows, quantized})
              ->Unit(benchmark::kMicrosecond)
              ->UseRealTime();
        }
      }
    }
  }
  return true;
}

[[maybe_unused]] const bool registered = RegisterAll();

}  // namespace
}  // namespace rankine
