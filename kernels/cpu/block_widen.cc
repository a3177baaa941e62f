// Codes of block encodings to f32 weights, [columns][16]: value = scale x (code - zero) + offset,
// the product rounded, then the sum, as DecodeBlockRow defines it.
#include "kernels/cpu/hwy_baseline.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/block_widen.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "kernels/cpu/block_kernels.h"
#include "kernels/cpu/e8p_unpack.h"

HWY_BEFORE_NAMESPACE();
namespace rankine {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::CappedTag<float, 16>;
using DI = hn::RebindToSigned<DF>;
using DU = hn::RebindToUnsigned<DF>;
using VF = hn::Vec<DF>;
constexpr int kLanes = HWY_LANES(float);
constexpr int kParts = 16 / kLanes;

// Dwords of a quad: byte j belongs to column j.
template <int kPlaneBits>
HWY_INLINE hn::Vec<DU> PlaneQuad(const uint8_t* codes, int64_t quad, int part) {
  constexpr int kVectors = 16 * kPlaneBits / 8;
  const uint8_t* at = codes + quad % kVectors * kVectorBytes + part * kLanes * 4;
  const auto v = hn::LoadU(DU(), reinterpret_cast<const uint32_t*>(at));
  constexpr uint32_t kMask = ((1u << kPlaneBits) - 1) * 0x01010101u;
  return hn::And(hn::ShiftRightSame(v, static_cast<int>(quad / kVectors) * kPlaneBits),
                 hn::Set(DU(), kMask));
}

template <int kBits>
HWY_INLINE hn::Vec<DU> CodesOfQuad(const uint8_t* codes, int64_t quad, int part) {
  constexpr CodePlanes kPlanes = PlanesOf(kBits);
  auto w = PlaneQuad<kPlanes.low>(codes, quad, part);
  if constexpr (kPlanes.high != 0) {
    constexpr int64_t kLowBytes = 16 * kPlanes.low / 8 * kVectorBytes;
    const auto high = PlaneQuad<kPlanes.high>(codes + kLowBytes, quad, part);
    w = hn::Or(w, hn::ShiftLeft<kPlanes.low>(high));
  }
  return w;
}

// The unscaled values of column `column` of a quad.
template <bool kNf4>
HWY_INLINE VF ColumnValues(hn::Vec<DU> quad, int column, hn::Vec<DI> zero) {
  const auto code =
      hn::BitCast(DI(), hn::And(hn::ShiftRightSame(quad, 8 * column), hn::Set(DU(), 0xffu)));
  if constexpr (kNf4) return hn::GatherIndex(DF(), kNf4Levels, code);
  return hn::ConvertTo(DF(), hn::Sub(code, zero));
}

template <int kBits, bool kNf4>
void Widen(const WidenArgs& args) {
  const auto zero = hn::Set(DI(), args.zero);
  const uint8_t* codes = args.codes;
  float* out = args.out;
  for (int64_t step = 0; step < args.steps; ++step, codes += 128 * kBits) {
    for (int64_t quad = 0; quad < kStepQuads; ++quad) {
      const int64_t number = (step * kStepColumns + 4 * quad) / args.group * kBlockRows;
      for (int part = 0; part < kParts; ++part) {
        const auto w = CodesOfQuad<kBits>(codes, quad, part);
        const VF scale = hn::LoadU(DF(), args.scales + number + part * kLanes);
        for (int column = 0; column < 4; ++column) {
          VF value = hn::Mul(scale, ColumnValues<kNf4>(w, column, zero));
          if (args.offsets != nullptr) {
            value = hn::Add(value, hn::LoadU(DF(), args.offsets + number + part * kLanes));
          }
          hn::StoreU(value, DF(), out + column * kBlockRows + part * kLanes);
        }
      }
      out += 4 * kBlockRows;
    }
  }
}

// Codewords through memory as bytes, which then widen like 8-bit codes.
void WidenE8P(const WidenArgs& args) {
  alignas(64) uint8_t quads[kStepColumns * kBlockRows];
  for (int64_t step = 0; step < args.steps; ++step) {
    UnpackE8PStep(args.codes + step * 256, quads);
    WidenArgs one = args;
    one.codes = quads;
    one.steps = 1;
    one.out = args.out + step * kStepColumns * kBlockRows;
    Widen<8, false>(one);
  }
}

}  // namespace

WidenFn FindWiden(const Encoding& encoding) {
  if (encoding.kind == EncodingKind::kNf4) return Widen<4, true>;
  if (encoding.kind == EncodingKind::kE8P) return WidenE8P;
  switch (encoding.bits) {
    case 2:
      return Widen<2, false>;
    case 3:
      return Widen<3, false>;
    case 4:
      return Widen<4, false>;
    case 5:
      return Widen<5, false>;
    case 6:
      return Widen<6, false>;
    case 8:
      return Widen<8, false>;
    default:
      return nullptr;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace rankine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rankine {

WidenFn FindWidenAvx2(const Encoding& encoding) { return N_AVX2::FindWiden(encoding); }
WidenFn FindWidenAvx512(const Encoding& encoding) { return N_AVX3::FindWiden(encoding); }

}  // namespace rankine
#endif  // HWY_ONCE
