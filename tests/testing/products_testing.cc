#include "tests/testing/products_testing.h"

#include <cmath>
#include <cstring>

namespace rankine {

Buffer::Buffer(int64_t bytes, int64_t misalign) : storage_(bytes + misalign + 64) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(storage_.data());
  data_ = reinterpret_cast<void*>((address + 63) / 64 * 64 + misalign);
}

void SetElement(const MatrixView& view, int64_t row, int64_t col, float value) {
  switch (view.dtype) {
    case DType::kF32:
      view.Row<float>(row)[col] = value;
      break;
    case DType::kF16:
      view.Row<F16>(row)[col] = ToF16(value);
      break;
    default:
      view.Row<BF16>(row)[col] = ToBF16(value);
  }
}

float GetElement(const MatrixView& view, int64_t row, int64_t col) {
  switch (view.dtype) {
    case DType::kF32:
      return view.Row<float>(row)[col];
    case DType::kF16:
      return ToFloat(view.Row<F16>(row)[col]);
    default:
      return ToFloat(view.Row<BF16>(row)[col]);
  }
}

TestMatrix::TestMatrix(DType dtype, int64_t rows, int64_t cols, int64_t stride, int64_t misalign)
    : buffer(std::make_shared<Buffer>(rows * stride * SizeOf(dtype), misalign * SizeOf(dtype))),
      view{.data = buffer->data(), .dtype = dtype, .rows = rows, .cols = cols, .stride = stride} {}

void TestMatrix::FillNormal(std::mt19937& rng) {
  std::normal_distribution<float> normal;
  for (int64_t row = 0; row < view.rows; ++row) {
    for (int64_t col = 0; col < view.cols; ++col) SetElement(view, row, col, normal(rng));
  }
}

TestCore::TestCore(DType dtype, int64_t n, int64_t k, int64_t extra_block_bytes) {
  const int64_t stride = PackedBlockBytes(dtype, k) + extra_block_bytes;
  buffer = std::make_shared<Buffer>(CeilDiv(n, kBlockRows) * stride);
  core = {.data = buffer->data(), .dtype = dtype, .n = n, .k = k, .block_stride = stride};
}

std::string ToString(const ProductSpec& s) {
  return std::to_string(s.tokens) + " tokens, n " + std::to_string(s.n) + ", k " +
         std::to_string(s.k) + ", weights " + std::string(Name(s.weights)) + ", x " +
         std::string(Name(s.x)) + ", y " + std::string(Name(s.y)) + (s.scale ? ", scale" : "") +
         (s.bias ? ", bias" : "") + (s.accumulate ? ", accumulate" : "");
}

TestProduct::TestProduct(const ProductSpec& s)
    : spec(s),
      w(s.weights, s.n, s.k, s.k + 3),
      x(s.x, s.tokens, s.k, RoundUp(s.k, kColumnPad), s.misalign),
      y(s.y, s.tokens, s.n, RoundUp(s.n, kColumnPad), s.misalign),
      packed(s.weights, s.n, s.k) {
  std::mt19937 rng(s.seed);
  std::normal_distribution<float> normal;
  w.FillNormal(rng);
  x.FillNormal(rng);
  if (s.accumulate) y.FillNormal(rng);
  RefOps().pack_rows({.source = w.view, .core = packed.core});
  scale.resize(RoundUp(s.n, kBlockRows));
  bias.resize(RoundUp(s.n, kBlockRows));
  for (int64_t i = 0; i < s.n; ++i) {
    scale[i] = normal(rng);
    bias[i] = normal(rng);
  }
  product = {.weights = packed.core,
             .x = x.view,
             .y = y.view,
             .scale = s.scale ? scale.data() : nullptr,
             .bias = s.bias ? bias.data() : nullptr,
             .accumulate = s.accumulate};
}

Product TestProduct::Slice(int64_t first, const MatrixView& out) const {
  Product slice = product;
  slice.x.data = static_cast<char*>(x.view.data) + first * x.view.stride * SizeOf(x.view.dtype);
  slice.x.rows = x.view.rows - first;
  slice.y = out;
  return slice;
}

double TestProduct::Tolerance(int64_t token, int64_t row, double exact) const {
  const double unit = std::ldexp(1.0, -24);
  const double n = static_cast<double>(spec.k) + 4;  // products, sums, scale, bias, accumulate
  const double gamma = n * unit / (1 - n * unit);
  double magnitude = 0;
  for (int64_t col = 0; col < spec.k; ++col) {
    magnitude += std::abs(static_cast<double>(GetElement(x.view, token, col)) *
                          GetElement(w.view, row, col));
  }
  if (spec.scale) magnitude *= std::abs(scale[row]);
  if (spec.bias) magnitude += std::abs(bias[row]);
  // The old value of y is at most the new one plus the rest.
  if (spec.accumulate) magnitude = 2 * magnitude + std::abs(exact);
  const double rounding = spec.y == DType::kBF16 ? std::ldexp(1.0, -8) * std::abs(exact) : 0;
  return gamma * magnitude * (1 + std::ldexp(1.0, -8)) + rounding + n * std::ldexp(1.0, -126);
}

}  // namespace rankine
