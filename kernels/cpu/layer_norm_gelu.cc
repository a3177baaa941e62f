// LayerNorm and GELU, a row at a time. A row's result depends on the row and the instruction set
// alone, never on the batch.
#include <cmath>

#include "kernels/cpu/hwy_baseline.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/layer_norm_gelu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/row_forms-inl.h"
#include "kernels/cpu/row_split.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rankine {
namespace HWY_NAMESPACE {
namespace {

// The sum of value(i, count) over n columns, zero beyond them: four running sums of vectors, then
// across lanes, an order fixed by n.
template <class F>
HWY_INLINE float SumRow(int64_t n, F&& value) {
  const DF d;
  VF sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  int64_t i = 0;
  for (; i + 4 * kStep <= n; i += 4 * kStep) {
    for (int64_t j = 0; j < 4; ++j) sums[j] = hn::Add(sums[j], value(i + j * kStep, kLanes));
  }
  for (; i < n; i += kStep) {
    const size_t count = static_cast<size_t>(n - i);
    sums[0] = hn::Add(sums[0], hn::IfThenElseZero(hn::FirstN(d, count), value(i, count)));
  }
  return Sum(hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])));
}

// In two passes: E[x^2] - E[x]^2 would lose all digits where the mean is large beside the spread.
void LayerNormRows(const LayerNormArgs& args, int64_t begin, int64_t end) {
  const int64_t n = args.x.cols;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x.Row<float>(row);
    const auto load = [&](int64_t i, size_t count) HWY_ATTR { return LoadUpTo(x + i, count); };
    const VF mean = hn::Set(DF(), SumRow(n, load) / static_cast<float>(n));
    const auto square = [&](int64_t i, size_t count) HWY_ATTR {
      const VF v = hn::Sub(LoadUpTo(x + i, count), mean);
      return hn::Mul(v, v);
    };
    const float variance = SumRow(n, square) / static_cast<float>(n);
    const VF inverse = hn::Set(DF(), 1.0f / std::sqrt(variance + args.eps));
    // `out` may be x: the quantised form comes first.
    const auto value = [&](int64_t i, size_t count) HWY_ATTR {
      const VF v = hn::Mul(hn::Sub(LoadUpTo(x + i, count), mean), inverse);
      return hn::MulAdd(v, LoadUpTo(args.weight + i, count), LoadUpTo(args.bias + i, count));
    };
    WriteRow(args.quantized, row, value);
    WriteRow(args.out, row, value);
  }
}

// x Phi(x), Phi the normal distribution function. With u = |x|, Phi(-u) = e^(-u^2 / 2) R(u) and
// Phi(u) = 1 - Phi(-u), neither of which cancels. R (half of erfcx) falls smoothly like 1 / u, so
// it is t p(t) with t = 1 / (1 + 0.35 u) and p of degree 8, the polynomial with the least largest
// relative error on u in [0, 14], 3.2e-8 (fitted by reweighted least squares; of the constants 0.25
// to 0.6 in steps of 0.05 this one leaves the least after rounding to f32: 5.2 roundings).
HWY_INLINE VF Gelu(VF x) {
  const DF d;
  // At 20 the tail is 0 already; a NaN compares false and stays.
  const VF size = hn::Abs(x);
  const VF u = hn::IfThenElse(hn::Gt(size, hn::Set(d, 20.0f)), hn::Set(d, 20.0f), size);
  const VF one = hn::Set(d, 1.0f);
  const VF t = hn::Div(one, hn::MulAdd(u, hn::Set(d, 0.35f), one));
  VF p = hn::Set(d, -0.0291459356f);
  p = hn::MulAdd(p, t, hn::Set(d, 0.143971726f));
  p = hn::MulAdd(p, t, hn::Set(d, -0.255714327f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.159174234f));
  p = hn::MulAdd(p, t, hn::Set(d, -0.0231098887f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.105508029f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.119832858f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.139861867f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.139621407f));
  // u^2 = high + low exactly; e^(-low / 2) is 1 - low / 2 to far below a rounding.
  const VF high = hn::Mul(u, u);
  const VF low = hn::MulSub(u, u, high);
  const VF half = hn::Set(d, 0.5f);
  const VF e = ExpNonPositive(hn::Neg(hn::Mul(high, half)));
  const VF tail = hn::Mul(hn::NegMulAdd(hn::Mul(low, half), e, e), hn::Mul(p, t));
  return hn::Mul(x, hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(one, tail)));
}

void GeluRows(const GeluArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x.Row<float>(row);
    const auto value = [&](int64_t i, size_t count)
                           HWY_ATTR { return Gelu(LoadUpTo(x + i, count)); };
    WriteRow(args.quantized, row, value);
    WriteRow(args.out, row, value);
  }
}

// Of an element, in those of a plain row-wise op: two more reads of the row; a division, exp and a
// polynomial.
constexpr int64_t kLayerNormCost = 2;
constexpr int64_t kGeluCost = 6;

void LayerNorm(const LayerNormArgs& args, Stream stream) {
  ForRows(stream, args.x.rows, kLayerNormCost * args.x.cols,
          [&](int64_t begin, int64_t end) { LayerNormRows(args, begin, end); });
}

void GeluOp(const GeluArgs& args, Stream stream) {
  ForRows(stream, args.x.rows, kGeluCost * args.x.cols,
          [&](int64_t begin, int64_t end) { GeluRows(args, begin, end); });
}

}  // namespace

void FillLayerNormGelu(OpTable* table) {
  table->layer_norm = LayerNorm;
  table->gelu = GeluOp;
}

}  // namespace HWY_NAMESPACE
}  // namespace rankine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rankine {

void FillLayerNormGeluAvx2(OpTable* table) { N_AVX2::FillLayerNormGelu(table); }
void FillLayerNormGeluAvx512(OpTable* table) { N_AVX3::FillLayerNormGelu(table); }

}  // namespace rankine
#endif
