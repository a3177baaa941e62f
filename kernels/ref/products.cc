// y = (x W^T) * scale + bias (+ y), summed in double and rounded once.
#include "kernels/api/quantized_rows.h"
#include "kernels/base/check.h"
#include "kernels/ref/block_core.h"
#include "kernels/ref/ref_ops.h"

namespace rankine {
namespace {

double FloatWeight(const PackedCore& core, int64_t row, int64_t col) {
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
      RK_CHECK(!"weights are f32, f16, bf16 or block-encoded");
      return 0;
  }
}

// With float activations a block-encoded weight counts as its f32 value; with quantised ones scale
// and offset act on exact integer sums.
double Weight(const Product& product, int64_t row, int64_t col) {
  const PackedCore& core = product.weights;
  if (core.dtype != DType::kU8) return FloatWeight(core, row, col);
  if (product.x.dtype != DType::kI8) return BlockElement(core, row, col);
  const BlockParts parts = BlockPartsAt(core, row, col);
  return static_cast<double>(parts.scale) * parts.code + parts.offset;
}

double Activation(const MatrixView& view, int64_t row, int64_t col) {
  if (view.dtype == DType::kBF16) return ToFloat(view.Row<BF16>(row)[col]);
  if (view.dtype == DType::kI8) {
    const auto* records = reinterpret_cast<const QuantizedRecord*>(view.Row<int8_t>(row));
    const QuantizedRecord& record = records[col / kRecordColumns];
    return static_cast<double>(record.scale) * record.codes[col % kRecordColumns];
  }
  RK_CHECK(view.dtype == DType::kF32);
  return view.Row<float>(row)[col];
}

double OutputElement(const Product& product, int64_t x_row, int64_t column, double y) {
  double sum = 0;
  for (int64_t k = 0; k < product.weights.k; ++k) {
    sum += Activation(product.x, x_row, k) * Weight(product, column, k);
  }
  if (product.scale != nullptr) sum *= product.scale[column];
  if (product.bias != nullptr) sum += product.bias[column];
  return product.accumulate ? sum + y : sum;
}

void Store(const Product& product, int64_t index, double value) {
  if (product.y.dtype == DType::kF32) {
    static_cast<float*>(product.y.data)[index] = static_cast<float>(value);
  } else {
    static_cast<BF16*>(product.y.data)[index] = ToBF16(static_cast<float>(value));
  }
}

void OneProduct(const Product& product, int64_t num_tokens) {
  const MatrixView& y = product.y;
  RK_CHECK(y.dtype == DType::kF32 || (y.dtype == DType::kBF16 && !product.accumulate));
  const int64_t n = product.weights.n, run = product.run == 0 ? n : product.run;
  const bool pads = product.run == 0 && product.rows_per_token == 1;
  for (int64_t row = 0; row < num_tokens * product.rows_per_token; ++row) {
    const int64_t base =
        row / product.rows_per_token * y.stride + row % product.rows_per_token * run;
    for (int64_t column = 0; column < n; ++column) {
      const int64_t index = base + column / run * product.run_stride + column % run;
      const double old = product.accumulate ? static_cast<float*>(y.data)[index] : 0;
      Store(product, index, OutputElement(product, row, column, old));
    }
    for (int64_t column = n; pads && column < RoundUp(n, kBlockRows); ++column) {
      Store(product, base + column, 0);
    }
  }
}

void Products(const ProductsArgs& args, Stream) {
  for (int i = 0; i < args.num_products; ++i) OneProduct(args.products[i], args.num_tokens);
}

}  // namespace

void FillRefProducts(OpTable* table) { table->products = Products; }

}  // namespace rankine
