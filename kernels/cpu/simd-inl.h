// Vector helpers of the row-wise and attention kernels: widening loads, rounding stores, tails,
// exp. Included once per instruction set (Highway's foreach_target), hence the toggled guard.
#if defined(RANKINE_KERNELS_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RANKINE_KERNELS_CPU_SIMD_INL_H_
#undef RANKINE_KERNELS_CPU_SIMD_INL_H_
#else
#define RANKINE_KERNELS_CPU_SIMD_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/base/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace rankine {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DI = hn::ScalableTag<int32_t>;
using DU = hn::ScalableTag<uint32_t>;
using VF = hn::Vec<DF>;
inline constexpr size_t kLanes = HWY_LANES(float);

// Unaligned load of kLanes values as f32; exact for every type.
HWY_INLINE VF LoadWide(const float* from) { return hn::LoadU(DF(), from); }
HWY_INLINE VF LoadWide(const F16* from) {
  const hn::Rebind<hwy::float16_t, DF> d16;
  return hn::PromoteTo(DF(), hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(from)));
}
HWY_INLINE VF LoadWide(const BF16* from) {
  const hn::Rebind<uint16_t, DU> d16;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from));
  return hn::BitCast(DF(), hn::ShiftLeft<16>(hn::PromoteTo(DU(), bits)));
}
HWY_INLINE VF LoadWide(const int8_t* from) {
  const hn::Rebind<int8_t, DF> d8;
  return hn::ConvertTo(DF(), hn::PromoteTo(DI(), hn::LoadU(d8, from)));
}

// The first `count` lanes from memory, zero in the others, whose memory is not touched.
HWY_INLINE VF LoadTail(const float* from, size_t count) {
  return hn::MaskedLoad(hn::FirstN(DF(), count), DF(), from);
}
HWY_INLINE VF LoadUpTo(const float* from, size_t count) {
  return count >= kLanes ? hn::LoadU(DF(), from) : LoadTail(from, count);
}

HWY_INLINE void StoreNarrow(VF v, float* to) { hn::StoreU(v, DF(), to); }
// Rounds to nearest even; a NaN stays one (its quiet bit is set), as ToBF16 does.
HWY_INLINE void StoreNarrow(VF v, BF16* to) {
  const DU du;
  const auto bits = hn::BitCast(du, v);
  const auto high = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(high, hn::Set(du, 1u));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fffu))));
  const auto nan = hn::RebindMask(du, hn::IsNaN(v));
  const auto result = hn::IfThenElse(nan, hn::Or(high, hn::Set(du, 0x40u)), rounded);
  const hn::Rebind<uint16_t, DU> d16;
  hn::StoreU(hn::TruncateTo(d16, result), d16, reinterpret_cast<uint16_t*>(to));
}
HWY_INLINE void StoreNarrow(VF v, F16* to) {
  const hn::Rebind<hwy::float16_t, DF> d16;
  hn::StoreU(hn::DemoteTo(d16, v), d16, reinterpret_cast<hwy::float16_t*>(to));
}

// 2^n for integers n in [-126, 127].
template <class VI>
HWY_INLINE VF TwoToThe(VI n) {
  return hn::BitCast(DF(), hn::ShiftLeft<23>(hn::Add(n, hn::Set(DI(), 127))));
}

// With x = n ln 2 + r, |r| <= ln 2 / 2: returns e^r and *n. e^r = 1 + r + r^2 q(r), where q is the
// polynomial of degree 4 with the least largest relative error, 3e-9 (fitted by reweighted least
// squares): far under the rounding of f32. ln 2 is split in two so that n x high part is exact.
template <class VI>
HWY_INLINE VF ReducedExp(VF x, VI* n) {
  const DF d;
  const VF rounded = hn::Round(hn::Mul(x, hn::Set(d, 1.44269504f)));
  *n = hn::ConvertTo(DI(), rounded);
  VF r = hn::NegMulAdd(rounded, hn::Set(d, 0.693145752f), x);
  r = hn::NegMulAdd(rounded, hn::Set(d, 1.42860682e-6f), r);
  VF q = hn::Set(d, 0.00138145f);
  q = hn::MulAdd(q, r, hn::Set(d, 0.00836875f));
  q = hn::MulAdd(q, r, hn::Set(d, 0.04166839f));
  q = hn::MulAdd(q, r, hn::Set(d, 0.1666652f));
  q = hn::MulAdd(q, r, hn::Set(d, 0.49999993f));
  return hn::Add(hn::Set(d, 1.0f), hn::MulAdd(hn::Mul(r, r), q, r));
}

// e^x for x <= 0 (weights of a softmax). Exactly 1 at 0; 0 below -87, where results would be
// denormal, and at -infinity; NaN stays NaN, so that a fault in the scores reaches the output.
HWY_INLINE VF ExpNonPositive(VF x) {
  const DF d;
  const auto tiny = hn::Lt(x, hn::Set(d, -87.0f));
  auto n = hn::Zero(DI());
  const VF e = ReducedExp(hn::IfThenZeroElse(tiny, x), &n);
  return hn::IfThenZeroElse(tiny, hn::Mul(e, TwoToThe(n)));
}

// e^x for any x: infinite above the range of f32, 0 below -104; NaN stays NaN.
HWY_INLINE VF ExpFull(VF x) {
  const DF d;
  // Both ends lie where the result is already infinite or zero; comparisons leave NaN alone.
  x = hn::IfThenElse(hn::Gt(x, hn::Set(d, 90.0f)), hn::Set(d, 90.0f), x);
  x = hn::IfThenElse(hn::Lt(x, hn::Set(d, -105.0f)), hn::Set(d, -105.0f), x);
  auto n = hn::Zero(DI());
  const VF e = ReducedExp(x, &n);
  // In two steps: 2^n itself may leave the normal range.
  const auto half = hn::ShiftRight<1>(n);
  return hn::Mul(hn::Mul(e, TwoToThe(half)), TwoToThe(hn::Sub(n, half)));
}

HWY_INLINE float Sum(VF v) { return hn::GetLane(hn::SumOfLanes(DF(), v)); }
HWY_INLINE float Max(VF v) { return hn::GetLane(hn::MaxOfLanes(DF(), v)); }

}  // namespace HWY_NAMESPACE
}  // namespace rankine
HWY_AFTER_NAMESPACE();

#endif  // include guard
