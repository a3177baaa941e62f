// A non-owning view of a strided buffer: all that kernels see of activations and of sources to
// pack.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"

namespace rankine {

// A row-major matrix [rows, cols] whose rows are `stride` elements apart.
// Activation buffers have stride = RoundUp(cols, 16), and whoever writes one also writes zeros to
// the pad columns, so that kernels may read and write whole blocks of 16.
struct MatrixView {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;  // in elements

  template <class T>
  T* Row(int64_t row) const {
    return static_cast<T*>(data) + row * stride;
  }
};

// Columns that activation rows are padded to.
inline constexpr int64_t kColumnPad = 16;

}  // namespace rankine
