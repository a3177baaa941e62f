// Random products for tests, and what a summation in f32 may lose.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/op_table.h"

namespace rankine {

// A zeroed buffer aligned to 64 bytes, and views `misalign` bytes into it.
class Buffer {
 public:
  explicit Buffer(int64_t bytes, int64_t misalign = 0);
  void* data() const { return data_; }

 private:
  std::vector<char> storage_;
  void* data_;
};

// Writes values to a matrix in its dtype.
void SetElement(const MatrixView& view, int64_t row, int64_t col, float value);
float GetElement(const MatrixView& view, int64_t row, int64_t col);

// A matrix [rows, cols] with rows of `stride` elements, whose first element is `misalign` elements
// after a 64-byte boundary.
struct TestMatrix {
  TestMatrix(DType dtype, int64_t rows, int64_t cols, int64_t stride, int64_t misalign = 0);
  void FillNormal(std::mt19937& rng);

  std::shared_ptr<Buffer> buffer;
  MatrixView view;
};

// A zeroed packed matrix.
struct TestCore {
  TestCore(DType dtype, int64_t n, int64_t k, int64_t extra_block_bytes = 0);

  std::shared_ptr<Buffer> buffer;
  PackedCore core;
};

struct ProductSpec {
  int64_t tokens = 1, n = 0, k = 0;
  DType weights = DType::kF32, x = DType::kF32, y = DType::kF32;
  bool scale = false, bias = false, accumulate = false;
  int64_t misalign = 0;  // elements, of x and y
  uint32_t seed = 1;
};

std::string ToString(const ProductSpec& spec);

// One product with random operands, and a copy of its y as it was before.
struct TestProduct {
  explicit TestProduct(const ProductSpec& spec);
  // A view of the same product for tokens [first, first + count), writing to `out`.
  Product Slice(int64_t first, const MatrixView& out) const;
  // How far y[token, row] may be from the exact value: gamma_(k + 4) times the sum of magnitudes
  // (Higham, Accuracy and Stability, section 3.1), plus the rounding of y, plus what flushing of
  // denormals may lose.
  double Tolerance(int64_t token, int64_t row, double exact) const;

  ProductSpec spec;
  TestMatrix w, x, y;
  TestCore packed;
  std::vector<float> scale, bias;
  Product product;
};

}  // namespace rankine
