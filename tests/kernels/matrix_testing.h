// Activation buffers for kernel tests: rows padded as the contract says, started at an odd address,
// with sentinels where nobody may write.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/base/math.h"
#include "kernels/base/tensor_view.h"
#include "kernels/op_table.h"

namespace rankine {

// Half an ulp of 1 in f32 and in bf16: the relative error of one rounding.
inline constexpr double kRoundF32 = 0x1p-24;
inline constexpr double kRoundBF16 = 0x1p-9;

class TestMatrix {
 public:
  // `offset` elements of misalignment in front; pads are poisoned with NaN until someone writes
  // them.
  TestMatrix(DType dtype, int64_t rows, int64_t cols, int64_t offset = 0)
      : rows_(rows), cols_(cols), stride_(RoundUp(cols, kColumnPad)), dtype_(dtype) {
    bytes_.assign(static_cast<size_t>(offset + rows * stride_) * SizeOf(dtype) + kGuard, 0xff);
    offset_bytes_ = static_cast<size_t>(offset) * SizeOf(dtype);
  }

  MatrixView view() {
    return {.data = bytes_.data() + offset_bytes_,
            .dtype = dtype_,
            .rows = rows_,
            .cols = cols_,
            .stride = stride_};
  }
  // One row as a matrix of its own.
  MatrixView row_view(int64_t row, int64_t rows = 1) {
    MatrixView v = view();
    v.data = bytes_.data() + offset_bytes_ + static_cast<size_t>(row * stride_) * SizeOf(dtype_);
    v.rows = rows;
    return v;
  }
  float* row(int64_t r) { return view().Row<float>(r); }
  float Get(int64_t r, int64_t c) {
    if (dtype_ == DType::kBF16) return ToFloat(view().Row<BF16>(r)[c]);
    return row(r)[c];
  }
  int64_t stride() const { return stride_; }
  int64_t cols() const { return cols_; }
  const std::vector<unsigned char>& bytes() const { return bytes_; }

  // Normal numbers in the columns, zeros in the pads.
  void FillRandom(std::mt19937* rng, float scale = 1.0f) {
    std::normal_distribution<float> normal(0.0f, scale);
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t c = 0; c < stride_; ++c) row(r)[c] = c < cols_ ? normal(*rng) : 0.0f;
    }
  }
  bool PadsAreZero() {
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t c = cols_; c < stride_; ++c) {
        if (!(Get(r, c) == 0.0f)) return false;
      }
    }
    return true;
  }
  // Nothing was written in front of or behind the matrix.
  bool GuardsAreIntact() const {
    for (size_t i = 0; i < offset_bytes_; ++i) {
      if (bytes_[i] != 0xff) return false;
    }
    for (size_t i = bytes_.size() - kGuard; i < bytes_.size(); ++i) {
      if (bytes_[i] != 0xff) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kGuard = 64;
  int64_t rows_, cols_, stride_;
  DType dtype_;
  size_t offset_bytes_ = 0;
  std::vector<unsigned char> bytes_;
};

// Relative error of storing in `dtype`.
inline double StoreError(DType dtype) { return dtype == DType::kBF16 ? kRoundBF16 : kRoundF32; }

// All tables of this machine, and the reference itself.
inline std::vector<const OpTable*> AllTables() {
  std::vector<const OpTable*> tables = CpuOpTables();
  tables.push_back(&RefOps());
  return tables;
}

}  // namespace rankine
