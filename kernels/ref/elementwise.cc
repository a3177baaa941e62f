// The oracle of the row-wise ops: one plain loop per op, double inside, one thread.
#include <cmath>

#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "kernels/ref/ref_ops.h"

namespace rankine {
namespace {

// Writes columns [0, cols) from `value(column)` and zeros up to the pad.
template <class T, class F>
void WriteRow(const MatrixView& out, int64_t row, F&& value) {
  T* to = out.Row<T>(row);
  for (int64_t i = 0; i < out.cols; ++i) to[i] = FromFloat<T>(static_cast<float>(value(i)));
  for (int64_t i = out.cols; i < RoundUp(out.cols, kColumnPad); ++i) to[i] = FromFloat<T>(0.0f);
}

template <class F>
void WriteRow(const MatrixView& out, int64_t row, F&& value) {
  if (out.dtype == DType::kBF16) return WriteRow<BF16>(out, row, value);
  RK_CHECK(out.dtype == DType::kF32);
  WriteRow<float>(out, row, value);
}

void RmsNorm(const RmsNormArgs& args, Stream) {
  for (int64_t row = 0; row < args.x.rows; ++row) {
    const float* x = args.x.Row<float>(row);
    double sum = 0;
    for (int64_t i = 0; i < args.x.cols; ++i) sum += static_cast<double>(x[i]) * x[i];
    const double mean = sum / static_cast<double>(args.x.cols);
    const double inverse = 1.0 / std::sqrt(mean + static_cast<double>(args.eps));
    WriteRow(args.out, row, [&](int64_t i) { return x[i] * inverse * args.weight[i]; });
  }
}

void SiluMul(const SiluMulArgs& args, Stream) {
  for (int64_t row = 0; row < args.gate.rows; ++row) {
    const float* gate = args.gate.Row<float>(row);
    const float* up = args.up.Row<float>(row);
    WriteRow(args.out, row, [&](int64_t i) {
      const double v = gate[i];
      return v / (1.0 + std::exp(-v)) * up[i];
    });
  }
}

void Convert(const ConvertArgs& args, Stream) {
  for (int64_t row = 0; row < args.x.rows; ++row) {
    const float* x = args.x.Row<float>(row);
    WriteRow(args.out, row, [&](int64_t i) { return x[i]; });
  }
}

}  // namespace

void FillRefElementwise(OpTable* table) {
  table->rms_norm = RmsNorm;
  table->silu_mul = SiluMul;
  table->convert = Convert;
}

}  // namespace rankine
