// Between the float types of files, with every value checked.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

namespace rankine {

inline bool IsFloat(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

// Converts `count` values, rounding to nearest even; `from` and `to` are float types; `in` and
// `out` may be the same buffer when the types are. Returns the index of the first value that is not
// finite in `to` (NaN, infinity, or too large for it), or -1 when there is none; `out` is written
// in either case.
int64_t ConvertFloats(DType from, const void* in, DType to, void* out, int64_t count);

// One value as a float.
float FloatAt(DType dtype, const void* data, int64_t index);

}  // namespace rankine
