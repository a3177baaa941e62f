// RMSNorm, SwiGLU's product and conversion, a row at a time. A row's result depends on the row and
// the instruction set alone, never on the batch.
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
#include "kernels/cpu/row_split.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rankine {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kStep = static_cast<int64_t>(kLanes);

// Stores value(i, count) at each vector of columns; beyond n come zeros, because every value()
// loads zeros there.
template <class T, class F>
HWY_INLINE void StoreRow(T* to, int64_t n, F&& value) {
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) StoreNarrow(value(i, kLanes), to + i);
  for (; i < RoundUp(n, kColumnPad); i += kStep) {
    const size_t count = i < n ? static_cast<size_t>(n - i) : 0;
    StoreNarrow(hn::IfThenElseZero(hn::FirstN(DF(), count), value(i, count)), to + i);
  }
}

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

template <class T>
void RmsNormRows(const RmsNormArgs& args, int64_t begin, int64_t end) {
  const int64_t n = args.x.cols;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x.Row<float>(row);
    const float mean = SumOfSquares(x, n) / static_cast<float>(n);
    const VF inverse = hn::Set(DF(), 1.0f / std::sqrt(mean + args.eps));
    StoreRow(args.out.Row<T>(row), n, [&](int64_t i, size_t count) HWY_ATTR {
      const VF v = LoadUpTo(x + i, count);
      return hn::Mul(hn::Mul(v, inverse), LoadUpTo(args.weight + i, count));
    });
  }
}

template <class T>
void SiluMulRows(const SiluMulArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* gate = args.gate.Row<float>(row);
    const float* up = args.up.Row<float>(row);
    StoreRow(args.out.Row<T>(row), args.gate.cols, [&](int64_t i, size_t count) HWY_ATTR {
      const VF v = LoadUpTo(gate + i, count);
      const VF denominator = hn::Add(hn::Set(DF(), 1.0f), ExpFull(hn::Neg(v)));
      return hn::Mul(hn::Div(v, denominator), LoadUpTo(up + i, count));
    });
  }
}

template <class T>
void ConvertRows(const ConvertArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x.Row<float>(row);
    StoreRow(args.out.Row<T>(row), args.x.cols,
             [&](int64_t i, size_t count) HWY_ATTR { return LoadUpTo(x + i, count); });
  }
}

// exp and a division make an element of silu_mul cost about four of the others.
constexpr int64_t kSiluCost = 4;

void RmsNorm(const RmsNormArgs& args, Stream stream) {
  RK_CHECK(args.out.dtype == DType::kF32 || args.out.dtype == DType::kBF16);
  ForRows(stream, args.x.rows, args.x.cols, [&](int64_t begin, int64_t end) {
    if (args.out.dtype == DType::kBF16) return RmsNormRows<BF16>(args, begin, end);
    RmsNormRows<float>(args, begin, end);
  });
}

void SiluMul(const SiluMulArgs& args, Stream stream) {
  RK_CHECK(args.out.dtype == DType::kF32 || args.out.dtype == DType::kBF16);
  ForRows(stream, args.gate.rows, kSiluCost * args.gate.cols, [&](int64_t begin, int64_t end) {
    if (args.out.dtype == DType::kBF16) return SiluMulRows<BF16>(args, begin, end);
    SiluMulRows<float>(args, begin, end);
  });
}

void Convert(const ConvertArgs& args, Stream stream) {
  RK_CHECK(args.out.dtype == DType::kF32 || args.out.dtype == DType::kBF16);
  ForRows(stream, args.x.rows, args.x.cols, [&](int64_t begin, int64_t end) {
    if (args.out.dtype == DType::kBF16) return ConvertRows<BF16>(args, begin, end);
    ConvertRows<float>(args, begin, end);
  });
}

}  // namespace

void FillElementwise(OpTable* table) {
  table->rms_norm = RmsNorm;
  table->silu_mul = SiluMul;
  table->convert = Convert;
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
