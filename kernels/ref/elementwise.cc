// The oracle of the row-wise ops: one plain loop per op, double inside, one thread.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/api/quantized_rows.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "kernels/ref/ref_ops.h"

namespace rankine {
namespace {

template <class T>
void WriteFloats(const MatrixView& out, int64_t row, const std::vector<float>& values) {
  T* to = out.Row<T>(row);
  for (int64_t i = 0; i < out.cols; ++i) to[i] = FromFloat<T>(values[i]);
  for (int64_t i = out.cols; i < RoundUp(out.cols, kColumnPad); ++i) to[i] = FromFloat<T>(0.0f);
}

void QuantizeRecord(const float* values, int64_t count, QuantizedRecord* record) {
  *record = {};
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(values[i]));
  record->scale = largest / 127.0f;
  const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
  for (int64_t i = 0; i < count; ++i) {
    const int code = static_cast<int>(std::nearbyint(values[i] * inverse));
    record->codes[i] = static_cast<int8_t>(std::clamp(code, -127, 127));
    record->minus_sums16[i / 16] -= record->codes[i];
    record->minus_sums32[i / 32] -= record->codes[i];
    record->minus_sum64 -= record->codes[i];
  }
}

void WriteRow(const MatrixView& out, int64_t row, const std::vector<float>& values) {
  if (out.data == nullptr) return;
  if (out.dtype == DType::kBF16) return WriteFloats<BF16>(out, row, values);
  if (out.dtype == DType::kF32) return WriteFloats<float>(out, row, values);
  RK_CHECK(out.dtype == DType::kI8);
  auto* records = reinterpret_cast<QuantizedRecord*>(out.Row<int8_t>(row));
  for (int64_t i = 0; i < out.cols; i += kRecordColumns) {
    QuantizeRecord(values.data() + i, std::min(kRecordColumns, out.cols - i),
                   &records[i / kRecordColumns]);
  }
}

float At(const MatrixView& view, int64_t row, int64_t col) {
  if (view.dtype == DType::kBF16) return ToFloat(view.Row<BF16>(row)[col]);
  RK_CHECK(view.dtype == DType::kF32);
  return view.Row<float>(row)[col];
}

void RmsNorm(const RmsNormArgs& args, Stream) {
  std::vector<float> values(args.x.cols);
  for (int64_t row = 0; row < args.x.rows; ++row) {
    const float* x = args.x.Row<float>(row);
    double sum = 0;
    for (int64_t i = 0; i < args.x.cols; ++i) sum += static_cast<double>(x[i]) * x[i];
    const double mean = sum / static_cast<double>(args.x.cols);
    const double inverse = 1.0 / std::sqrt(mean + static_cast<double>(args.eps));
    for (int64_t i = 0; i < args.x.cols; ++i)
      values[i] = static_cast<float>(x[i] * inverse * args.weight[i]);
    WriteRow(args.out, row, values);
    WriteRow(args.quantized, row, values);
  }
}

void SiluMul(const SiluMulArgs& args, Stream) {
  std::vector<float> values(args.gate.cols);
  for (int64_t row = 0; row < args.gate.rows; ++row) {
    const float* gate = args.gate.Row<float>(row);
    const float* up = args.up.Row<float>(row);
    for (int64_t i = 0; i < args.gate.cols; ++i) {
      const double v = gate[i];
      values[i] = static_cast<float>(v / (1.0 + std::exp(-v)) * up[i]);
    }
    WriteRow(args.out, row, values);
    WriteRow(args.quantized, row, values);
  }
}

void LayerNorm(const LayerNormArgs& args, Stream) {
  const int64_t n = args.x.cols;
  std::vector<float> values(n);
  for (int64_t row = 0; row < args.x.rows; ++row) {
    const float* x = args.x.Row<float>(row);
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; ++i) sum += x[i];
    const double mean = sum / static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const double variance = squares / static_cast<double>(n);
    const double inverse = 1.0 / std::sqrt(variance + static_cast<double>(args.eps));
    for (int64_t i = 0; i < n; ++i)
      values[i] = static_cast<float>((x[i] - mean) * inverse * args.weight[i] + args.bias[i]);
    WriteRow(args.out, row, values);
    WriteRow(args.quantized, row, values);
  }
}

void Gelu(const GeluArgs& args, Stream) {
  std::vector<float> values(args.x.cols);
  for (int64_t row = 0; row < args.x.rows; ++row) {
    const float* x = args.x.Row<float>(row);
    for (int64_t i = 0; i < args.x.cols; ++i)
      values[i] = static_cast<float>(0.5 * x[i] * std::erfc(-x[i] / std::sqrt(2.0)));
    WriteRow(args.out, row, values);
    WriteRow(args.quantized, row, values);
  }
}

void Convert(const ConvertArgs& args, Stream) {
  std::vector<float> values(args.x.cols);
  for (int64_t row = 0; row < args.x.rows; ++row) {
    for (int64_t i = 0; i < args.x.cols; ++i) values[i] = At(args.x, row, i);
    WriteRow(args.out, row, values);
  }
}

// Sylvester's matrix: H[a, b] = (-1)^popcount(a & b).
double Sylvester(int64_t a, int64_t b) {
  return __builtin_popcountll(static_cast<uint64_t>(a & b)) % 2 == 0 ? 1.0 : -1.0;
}

void Hadamard(const HadamardArgs& args, Stream) {
  const int64_t n = args.x.cols, b = args.block_size, powers = n / b;
  RK_CHECK(powers * b == n && (powers & (powers - 1)) == 0);
  RK_CHECK(args.quantized.data == nullptr || (args.bias == nullptr && !args.accumulate));
  std::vector<double> x(n);
  std::vector<float> values(n);
  for (int64_t row = 0; row < args.x.rows; ++row) {
    for (int64_t i = 0; i < n; ++i) {
      x[i] = static_cast<double>(At(args.x, row, i)) * (args.transposed ? 1.0f : args.signs[i]);
    }
    for (int64_t i = 0; i < n; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < n; ++j) {
        const double block = args.block == nullptr ? 1.0 : args.block[j % b * b + i % b];
        sum += Sylvester(i / b, j / b) * block * x[j];
      }
      sum /= std::sqrt(static_cast<double>(powers));
      if (args.transposed) sum *= args.signs[i];
      if (args.bias != nullptr) sum += args.bias[i];
      if (args.accumulate) sum += args.out.Row<float>(row)[i];
      values[i] = static_cast<float>(sum);
    }
    WriteRow(args.out, row, values);
    WriteRow(args.quantized, row, values);
  }
}

void Permute(const PermuteArgs& args, Stream) {
  RK_CHECK(args.out.dtype == DType::kF32 && args.out.data != args.x.data);
  for (int64_t row = 0; row < args.x.rows; ++row) {
    float* out = args.out.Row<float>(row);
    for (int64_t i = 0; i < args.out.cols; ++i) out[i] = At(args.x, row, args.indices[i]);
    for (int64_t i = args.out.cols; i < RoundUp(args.out.cols, kColumnPad); ++i) out[i] = 0;
  }
}

void Add(const AddArgs& args, Stream) {
  for (int64_t row = 0; row < args.x.rows; ++row) {
    float* y = args.y.Row<float>(row);
    for (int64_t i = 0; i < args.x.cols; ++i) {
      const float bias = args.bias == nullptr ? 0.0f : args.bias[i];
      y[i] = args.x.Row<float>(row)[i] + bias + (args.accumulate ? y[i] : 0.0f);
    }
    for (int64_t i = args.x.cols; i < RoundUp(args.x.cols, kColumnPad); ++i) y[i] = 0;
  }
}

}  // namespace

void FillRefElementwise(OpTable* table) {
  table->rms_norm = RmsNorm;
  table->silu_mul = SiluMul;
  table->layer_norm = LayerNorm;
  table->gelu = Gelu;
  table->convert = Convert;
  table->hadamard = Hadamard;
  table->permute = Permute;
  table->add = Add;
}

}  // namespace rankine
