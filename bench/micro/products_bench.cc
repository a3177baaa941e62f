// Products against the machine: GB/s over the read bandwidth for few tokens, GFLOP/s over the peak
// for many, and a factored pair against the dense matrix. Bandwidth and peak are measured
// interleaved with what is judged; a product walks over copies of its weights that together exceed
// the last-level cache.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/api/quantized_rows.h"
#include "kernels/cpu/huge_buffer.h"
#include "kernels/cpu/machine_peak.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/op_table.h"

namespace rankine {
namespace {

using Clock = std::chrono::steady_clock;

// Several times the last-level cache of the machines we know.
constexpr int64_t kWeightBytes = 400 << 20;

double Seconds(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

// RANKINE_BENCH_THREADS sets the number of threads.
ThreadPool& Pool() {
  static ThreadPool pool([] {
    const char* threads = std::getenv("RANKINE_BENCH_THREADS");
    return threads != nullptr ? std::max(1, std::atoi(threads)) : DefaultNumThreads();
  }());
  return pool;
}

ReadProbe& Probe() {
  static ReadProbe probe;
  return probe;
}

// Small values of either sign: neither denormals nor growth may change the timing.
void FillRandom(char* data, int64_t bytes, DType dtype) {
  uint64_t state = 1;
  const int64_t count = bytes / static_cast<int64_t>(SizeOf(dtype));
  for (int64_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const float value = (static_cast<float>(state >> 40) * 0x1p-23f - 1.0f) * 0.05f;
    if (dtype == DType::kF32) reinterpret_cast<float*>(data)[i] = value;
    if (dtype == DType::kF16) reinterpret_cast<F16*>(data)[i] = ToF16(value);
    if (dtype == DType::kBF16) reinterpret_cast<BF16*>(data)[i] = ToBF16(value);
  }
}

// Copies of one packed matrix.
struct Weights {
  Weights(int64_t n, int64_t k, DType dtype, int64_t total_bytes)
      : bytes(PackedBytes(dtype, n, k)),
        copies(std::max<int64_t>(1, total_bytes / bytes)),
        buffer(bytes * copies) {
    FillRandom(buffer.data(), bytes, dtype);
    for (int64_t c = 1; c < copies; ++c) {
      std::memcpy(buffer.data() + c * bytes, buffer.data(), bytes);
    }
    core = {.dtype = dtype, .n = n, .k = k, .block_stride = PackedBlockBytes(dtype, k)};
  }
  // Block-encoded, of noise in codes and headers: small floats as bits, no denormal halves among
  // them.
  Weights(int64_t n, int64_t k, const Encoding& encoding, int64_t total_bytes)
      : bytes(PackedBytes(encoding, n, k)),
        copies(std::max<int64_t>(1, total_bytes / bytes)),
        buffer(bytes * copies) {
    FillRandom(buffer.data(), bytes * copies, DType::kF32);
    core = {.dtype = DType::kU8,
            .encoding = encoding,
            .n = n,
            .k = k,
            .block_stride = PackedBlockBytes(encoding, k)};
  }
  PackedCore Copy(int64_t index) const {
    PackedCore copy = core;
    copy.data = buffer.data() + index % copies * bytes;
    return copy;
  }

  int64_t bytes, copies;
  HugeBuffer buffer;
  PackedCore core;
};

struct Activations {
  Activations(int64_t tokens, int64_t columns, DType dtype)
      : buffer(tokens * RoundUp(columns, kColumnPad) * static_cast<int64_t>(SizeOf(dtype))) {
    view = {.data = buffer.data(),
            .dtype = dtype,
            .rows = tokens,
            .cols = columns,
            .stride = RoundUp(columns, kColumnPad)};
    FillRandom(buffer.data(), tokens * view.stride * static_cast<int64_t>(SizeOf(dtype)), dtype);
  }
  HugeBuffer buffer;
  MatrixView view;
};

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

struct Shape {
  const char* name;
  int64_t n, k;
};

constexpr Shape kShapes[] = {
    {"qkv_960x576", 960, 576},    {"o_576x576", 576, 576},        {"gate_up_3072x576", 3072, 576},
    {"down_576x1536", 576, 1536}, {"head_49152x576", 49152, 576}, {"4096x4096", 4096, 4096},
    {"11008x4096", 11008, 4096},
};

struct Case {
  const OpTable* ops;
  Shape shape;
  int64_t tokens;
  DType weights, x;
};

// The best bandwidth and peak seen while a case runs, measured again every tenth of a second of
// products.
class Machine {
 public:
  Machine(Stream stream, FlopKind kind) : stream_(stream), kind_(kind) {}

  void Update(double product_seconds) {
    since_ += product_seconds;
    if (since_ < 0.1) return;
    since_ = 0;
    bandwidth_ = std::max(bandwidth_, Probe().Measure(stream_));
    peak_ = std::max(peak_, MeasurePeakFlops(stream_, kind_, 1));
  }
  double bandwidth() const { return bandwidth_; }
  double peak() const { return peak_; }

 private:
  Stream stream_;
  FlopKind kind_;
  double bandwidth_ = 0, peak_ = 0, since_ = 1;
};

// Times runs with the machine measured in between.
class Judge {
 public:
  Judge(Stream stream, FlopKind kind) : machine_(stream, kind) {}

  template <class F>
  double Time(F&& run) {
    machine_.Update(seconds_.empty() ? 0 : seconds_.back());
    const auto start = Clock::now();
    run();
    seconds_.push_back(Seconds(start, Clock::now()));
    return seconds_.back();
  }

  void Report(benchmark::State& state, int64_t bytes, double operations) const {
    const double median = Median(seconds_);
    const double rate = operations / median;
    state.counters["GB/s"] = bytes / median * 1e-9;
    state.counters["of_bandwidth"] = bytes / median / machine_.bandwidth();
    state.counters["GFLOP/s"] = rate * 1e-9;
    state.counters["of_peak"] = rate / machine_.peak();
    // On a machine that others use too: the fastest run, to the best probe.
    const double speedup = median / *std::min_element(seconds_.begin(), seconds_.end());
    state.counters["best_of_bandwidth"] = bytes / median / machine_.bandwidth() * speedup;
    state.counters["best_of_peak"] = rate / machine_.peak() * speedup;
  }

 private:
  Machine machine_;
  std::vector<double> seconds_;
};

void ProductCase(benchmark::State& state, Case c) {
  const Stream stream{&Pool()};
  Weights w(c.shape.n, c.shape.k, c.weights, kWeightBytes);
  Activations x(c.tokens, c.shape.k, c.x), y(c.tokens, c.shape.n, DType::kF32);
  const bool pairs = c.weights == DType::kBF16 && c.x == DType::kBF16;
  Judge judge(stream, pairs ? FlopKind::kBF16 : FlopKind::kF32);
  int64_t copy = 0;
  for (auto _ : state) {
    const Product product{.weights = w.Copy(copy++), .x = x.view, .y = y.view};
    state.SetIterationTime(judge.Time([&] {
      c.ops->products({.products = &product, .num_products = 1, .num_tokens = c.tokens}, stream);
    }));
  }
  judge.Report(state, w.bytes, 2.0 * c.shape.n * c.shape.k * c.tokens);
}

Encoding Affine(int bits, int32_t group, OffsetKind offset = OffsetKind::kNone) {
  return {.kind = EncodingKind::kAffine,
          .bits = static_cast<uint8_t>(bits),
          .group = group,
          .offset = offset};
}

struct NamedEncoding {
  const char* name;
  Encoding encoding;
};

const NamedEncoding kEncodings[] = {
    {"e8p", {.kind = EncodingKind::kE8P}},
    {"int2_g64", Affine(2, 64)},
    {"int3_g64", Affine(3, 64)},
    {"int4_g32", Affine(4, 32)},
    {"int4_g32_offset", Affine(4, 32, OffsetKind::kPerGroup)},
    {"int4_g64", Affine(4, 64)},
    {"int5_g32", Affine(5, 32)},
    {"int6_g64", Affine(6, 64)},
    {"int8_g32", Affine(8, 32)},
    {"int8_g64", Affine(8, 64)},
    {"q4_k",
     {.kind = EncodingKind::kAffine,
      .bits = 4,
      .group = 32,
      .scale = ScaleKind::kTwoLevel,
      .offset = OffsetKind::kTwoLevel}},
    {"q6_k",
     {.kind = EncodingKind::kAffine, .bits = 6, .group = 16, .scale = ScaleKind::kTwoLevelI8}},
};

struct EncodedCase {
  const OpTable* ops;
  Shape shape;
  int64_t tokens;
  NamedEncoding encoding;
};

void EncodedProductCase(benchmark::State& state, EncodedCase c) {
  const Stream stream{&Pool()};
  const Weights w(c.shape.n, c.shape.k, c.encoding.encoding, kWeightBytes);
  Activations floats(c.tokens, c.shape.k, DType::kF32), y(c.tokens, c.shape.n, DType::kF32);
  HugeBuffer records(c.tokens * QuantizedRowBytes(c.shape.k));
  const MatrixView x{.data = records.data(),
                     .dtype = DType::kI8,
                     .rows = c.tokens,
                     .cols = c.shape.k,
                     .stride = QuantizedRowBytes(c.shape.k)};
  c.ops->convert({.x = floats.view, .out = x}, stream);
  Judge judge(stream, FlopKind::kInt8);
  int64_t copy = 0;
  for (auto _ : state) {
    const Product product{.weights = w.Copy(copy++), .x = x, .y = y.view};
    state.SetIterationTime(judge.Time([&] {
      c.ops->products({.products = &product, .num_products = 1, .num_tokens = c.tokens}, stream);
    }));
  }
  judge.Report(state, w.bytes, 2.0 * c.shape.n * c.shape.k * c.tokens);
}

// Dense W against U S V at half the parameters, one token, in turns: how much of the saving in
// bytes is kept.
void FactoredCase(benchmark::State& state, const OpTable* ops, Shape shape) {
  const Stream stream{&Pool()};
  const int64_t rank = RoundUp(shape.n * shape.k / 2 / (shape.n + shape.k), kBlockRows);
  Weights dense(shape.n, shape.k, DType::kBF16, kWeightBytes);
  Weights u(shape.n, rank, DType::kBF16, kWeightBytes / 4);
  Weights v(rank, shape.k, DType::kBF16, kWeightBytes / 4);
  Activations x(1, shape.k, DType::kBF16), middle(1, rank, DType::kBF16);
  Activations y(1, shape.n, DType::kF32), s(1, rank, DType::kF32);
  std::vector<double> dense_seconds, factored_seconds;
  int64_t copy = 0;
  for (auto _ : state) {
    const Product whole{.weights = dense.Copy(copy), .x = x.view, .y = y.view};
    const Product first{
        .weights = v.Copy(copy), .x = x.view, .y = middle.view, .scale = s.view.Row<float>(0)};
    const Product second{.weights = u.Copy(copy), .x = middle.view, .y = y.view};
    ++copy;
    const auto start = Clock::now();
    ops->products({.products = &whole, .num_products = 1, .num_tokens = 1}, stream);
    const auto between = Clock::now();
    ops->products({.products = &first, .num_products = 1, .num_tokens = 1}, stream);
    ops->products({.products = &second, .num_products = 1, .num_tokens = 1}, stream);
    dense_seconds.push_back(Seconds(start, between));
    factored_seconds.push_back(Seconds(between, Clock::now()));
    state.SetIterationTime(factored_seconds.back());
  }
  const double ratio = Median(dense_seconds) / Median(factored_seconds);
  const double bytes_ratio = static_cast<double>(dense.bytes) / (u.bytes + v.bytes);
  state.counters["rank"] = rank;
  state.counters["speedup"] = ratio;
  state.counters["bytes_ratio"] = bytes_ratio;
  state.counters["speedup/bytes_ratio"] = ratio / bytes_ratio;
}

void RegisterProduct(const Case& c) {
  const std::string name = std::string("products/") + c.ops->name + "/" + c.shape.name + "/w_" +
                           std::string(Name(c.weights)) + "/x_" + std::string(Name(c.x)) +
                           "/tokens_" + std::to_string(c.tokens);
  benchmark::RegisterBenchmark(name.c_str(), ProductCase, c)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

void RegisterEncoded(const EncodedCase& c) {
  const std::string name = std::string("encoded/") + c.ops->name + "/" + c.shape.name + "/" +
                           c.encoding.name + "/tokens_" + std::to_string(c.tokens);
  benchmark::RegisterBenchmark(name.c_str(), EncodedProductCase, c)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

bool RegisterAll() {
  for (const OpTable* ops : CpuOpTables()) {
    for (const Shape& shape : kShapes) {
      for (int64_t tokens : {1, 2, 4, 8, 12, 16, 32, 64, 512}) {
        RegisterProduct({ops, shape, tokens, DType::kBF16, DType::kBF16});
        RegisterProduct({ops, shape, tokens, DType::kBF16, DType::kF32});
        RegisterProduct({ops, shape, tokens, DType::kF16, DType::kF32});
        RegisterProduct({ops, shape, tokens, DType::kF32, DType::kF32});
      }
    }
    for (const Shape& shape : kShapes) {
      for (int64_t tokens : {1, 2, 4, 8, 16, 32, 64, 512}) {
        for (const NamedEncoding& encoding : kEncodings)
          RegisterEncoded({ops, shape, tokens, encoding});
      }
    }
    for (const Shape& shape : {kShapes[5], kShapes[6]}) {
      const std::string name = std::string("factored/") + ops->name + "/" + shape.name;
      benchmark::RegisterBenchmark(name.c_str(), FactoredCase, ops, shape)
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond);
    }
  }
  return true;
}

[[maybe_unused]] const bool registered = RegisterAll();

}  // namespace
}  // namespace rankine
