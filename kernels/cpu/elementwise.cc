// RMSNorm, SwiGLU's product, conversion and the like, a row at a time. A row's result depends on
// the row and the instruction set alone, never on the batch.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/hwy_baseline.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/row_forms-inl.h"
#include "kernels/cpu/row_split.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rankine {
namespace HWY_NAMESPACE {
namespace {

// In four running sums of vectors, then across lanes: an order fixed by n.
float SumOfSquares(const float* x, int64_t n) {
  const DF d;
  VF sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  int64_t i = 0;
  for (; i + 4 * kStep <= n; i += 4 * kStep) {
    for (int64_t j = 0; j < 4; ++j) {
      const VF v = hn::LoadU(d, x + i + j * kStep);
      sums[j] = hn::MulAdd(v, v, sums[j]);
    }
  }
  for (; i < n; i += kStep) {
    const VF v = LoadUpTo(x + i, static_cast<size_t>(n - i));
    sums[0] = hn::MulAdd(v, v, sums[0]);
  }
  return Sum(hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])));
}

void RmsNormRows(const RmsNormArgs& args, int64_t begin, int64_t end) {
  const int64_t n = args.x.cols;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x.Row<float>(row);
    const float mean = SumOfSquares(x, n) / static_cast<float>(n);
    const VF inverse = hn::Set(DF(), 1.0f / std::sqrt(mean + args.eps));
    WriteForms(args.out, args.quantized, row, [&](int64_t i, size_t count) HWY_ATTR {
      const VF v = LoadUpTo(x + i, count);
      return hn::Mul(hn::Mul(v, inverse), LoadUpTo(args.weight + i, count));
    });
  }
}

void SiluMulRows(const SiluMulArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* gate = args.gate.Row<float>(row);
    const float* up = args.up.Row<float>(row);
    // `out` may alias gate: the quantised form comes first.
    auto value = [&](int64_t i, size_t count) HWY_ATTR {
      const VF v = LoadUpTo(gate + i, count);
      const VF denominator = hn::Add(hn::Set(DF(), 1.0f), ExpFull(hn::Neg(v)));
      return hn::Mul(hn::Div(v, denominator), LoadUpTo(up + i, count));
    };
    WriteRow(args.quantized, row, value);
    WriteRow(args.out, row, value);
  }
}

void ConvertRows(const ConvertArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    WriteRow(args.out, row,
             [&](int64_t i, size_t count) HWY_ATTR { return LoadValues(args.x, row, i, count); });
  }
}

void PermuteRows(const PermuteArgs& args, int64_t begin, int64_t end) {
  const int64_t n = args.out.cols;
  for (int64_t row = begin; row < end; ++row) {
    float* out = args.out.Row<float>(row);
    if (args.x.dtype == DType::kF32) {
      const float* x = args.x.Row<float>(row);
      for (int64_t i = 0; i < n; ++i) out[i] = x[args.indices[i]];
    } else {
      const BF16* x = args.x.Row<BF16>(row);
      for (int64_t i = 0; i < n; ++i) out[i] = ToFloat(x[args.indices[i]]);
    }
    std::fill(out + n, out + RoundUp(n, kColumnPad), 0.0f);
  }
}

// exp and a division make an element of silu_mul cost about four of the others.
constexpr int64_t kSiluCost = 4;

void RmsNorm(const RmsNormArgs& args, Stream stream) {
  ForRows(stream, args.x.rows, args.x.cols,
          [&](int64_t begin, int64_t end) { RmsNormRows(args, begin, end); });
}

void SiluMul(const SiluMulArgs& args, Stream stream) {
  ForRows(stream, args.gate.rows, kSiluCost * args.gate.cols,
          [&](int64_t begin, int64_t end) { SiluMulRows(args, begin, end); });
}

void Convert(const ConvertArgs& args, Stream stream) {
  ForRows(stream, args.x.rows, args.x.cols,
          [&](int64_t begin, int64_t end) { ConvertRows(args, begin, end); });
}

void Permute(const PermuteArgs& args, Stream stream) {
  RK_CHECK(args.out.dtype == DType::kF32 && args.out.data != args.x.data);
  ForRows(stream, args.x.rows, args.x.cols,
          [&](int64_t begin, int64_t end) { PermuteRows(args, begin, end); });
}

void Add(const AddArgs& args, Stream stream) {
  RK_CHECK(args.x.dtype == DType::kF32 && args.y.dtype == DType::kF32);
  ForRows(stream, args.x.rows, args.x.cols, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* x = args.x.Row<float>(row);
      float* y = args.y.Row<float>(row);
      StoreRow(y, args.x.cols, [&](int64_t i, size_t count) HWY_ATTR {
        VF sum = LoadUpTo(x + i, count);
        if (args.bias != nullptr) sum = hn::Add(sum, LoadUpTo(args.bias + i, count));
        return args.accumulate ? hn::Add(sum, LoadUpTo(y + i, count)) : sum;
      });
    }
  });
}

}  // namespace

void FillElementwise(OpTable* table) {
  table->rms_norm = RmsNorm;
  table->silu_mul = SiluMul;
  table->convert = Convert;
  table->permute = Permute;
  table->add = Add;
}

}  // namespace HWY_NAMESPACE
}  // namespace rankine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rankine {

void FillElementwiseAvx2(OpTable* table) { N_AVX2::FillElementwise(table); }
void FillElementwiseAvx512(OpTable* table) { N_AVX3::FillElementwise(table); }

}  // namespace rankine
#endif
