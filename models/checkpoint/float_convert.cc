#include "models/checkpoint/float_convert.h"

#include "kernels/base/check.h"

namespace rankine {
namespace {

// All exponent bits set: infinity or NaN.
bool IsSpecial(float v) { return (std::bit_cast<uint32_t>(v) & 0x7f800000u) == 0x7f800000u; }
bool IsSpecial(BF16 v) { return (v.bits & 0x7f80u) == 0x7f80u; }
bool IsSpecial(F16 v) { return (v.bits & 0x7c00u) == 0x7c00u; }

// The common case has no special value, so the loop only notes whether there is one (and
// vectorises).
template <class From, class To>
int64_t Convert(const From* in, To* out, int64_t count) {
  unsigned special = 0;
  for (int64_t k = 0; k < count; ++k) {
    const To value = FromFloat<To>(ToFloat(in[k]));
    out[k] = value;
    special |= static_cast<unsigned>(IsSpecial(value));
  }
  if (special == 0) return -1;
  for (int64_t k = 0; k < count; ++k) {
    if (IsSpecial(out[k])) return k;
  }
  return -1;
}

template <class From>
int64_t ConvertFrom(const From* in, DType to, void* out, int64_t count) {
  switch (to) {
    case DType::kF32:
      return Convert(in, static_cast<float*>(out), count);
    case DType::kF16:
      return Convert(in, static_cast<F16*>(out), count);
    case DType::kBF16:
      return Convert(in, static_cast<BF16*>(out), count);
    default:
      RK_CHECK(IsFloat(to));
      return -1;
  }
}

}  // namespace

int64_t ConvertFloats(DType from, const void* in, DType to, void* out, int64_t count) {
  switch (from) {
    case DType::kF32:
      return ConvertFrom(static_cast<const float*>(in), to, out, count);
    case DType::kF16:
      return ConvertFrom(static_cast<const F16*>(in), to, out, count);
    case DType::kBF16:
      return ConvertFrom(static_cast<const BF16*>(in), to, out, count);
    default:
      RK_CHECK(IsFloat(from));
      return -1;
  }
}

float FloatAt(DType dtype, const void* data, int64_t index) {
  switch (dtype) {
    case DType::kF32:
      return static_cast<const float*>(data)[index];
    case DType::kF16:
      return ToFloat(static_cast<const F16*>(data)[index]);
    case DType::kBF16:
      return ToFloat(static_cast<const BF16*>(data)[index]);
    default:
      RK_CHECK(IsFloat(dtype));
      return 0;
  }
}

}  // namespace rankine
