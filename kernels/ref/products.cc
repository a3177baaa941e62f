// y = (x W^T) * scale + bias (+ y), summed in double and rounded once.
#include "kernels/base/check.h"
#include "kernels/ref/ref_ops.h"

namespace rankine {
namespace {

double Weight(const PackedCore& core, int64_t row, int64_t col) {
  const int64_t inner = core.dtype == DType::kF32 ? 1 : 2;
  const char* block = static_cast<const char*>(core.data) + row / kBlockRows * core.block_stride;
  const int64_t index = col / inner * inner * kBlockRows + row % kBlockRows * inner + col % inner;
  switch (core.dtype) {
    case DType::kF32:
      return reinterpret_cast<const float*>(block)[index];
    case DType::kF16:
      return ToFloat(reinterpret_cast<const F16*>(block)[index]);
    case DType::kBF16:
      return ToFloat(reinterpret_cast<const BF16*>(block)[index]);
    default:
      RK_CHECK(!"weights are f32, f16 or bf16");
      return 0;
  }
}

double Activation(const MatrixView& view, int64_t row, int64_t col) {
  if (view.dtype == DType::kBF16) return ToFloat(view.Row<BF16>(row)[col]);
  RK_CHECK(view.dtype == DType::kF32);
  return view.Row<float>(row)[col];
}

double OutputElement(const Product& product, int64_t token, int64_t row) {
  double sum = 0;
  for (int64_t col = 0; col < product.weights.k; ++col) {
    sum += Activation(product.x, token, col) * Weight(product.weights, row, col);
  }
  if (product.scale != nullptr) sum *= product.scale[row];
  if (product.bias != nullptr) sum += product.bias[row];
  if (product.accumulate) sum += product.y.Row<float>(token)[row];
  return sum;
}

void OneProduct(const Product& product, int64_t num_tokens) {
  const MatrixView& y = product.y;
  RK_CHECK(y.dtype == DType::kF32 || (y.dtype == DType::kBF16 && !product.accumulate));
  for (int64_t token = 0; token < num_tokens; ++token) {
    for (int64_t row = 0; row < RoundUp(product.weights.n, kBlockRows); ++row) {
      const double value = row < product.weights.n ? OutputElement(product, token, row) : 0;
      if (y.dtype == DType::kF32) {
        y.Row<float>(token)[row] = static_cast<float>(value);
      } else {
        y.Row<BF16>(token)[row] = ToBF16(static_cast<float>(value));
      }
    }
  }
}

void Products(const ProductsArgs& args, Stream) {
  for (int i = 0; i < args.num_products; ++i) OneProduct(args.products[i], args.num_tokens);
}

}  // namespace

void FillRefProducts(OpTable* table) { table->products = Products; }

}  // namespace rankine
