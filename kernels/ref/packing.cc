// The packed layout of packed_core.h, element by element.
#include "kernels/base/check.h"
#include "kernels/ref/block_core.h"
#include "kernels/ref/ref_ops.h"

namespace rankine {
namespace {

// Index of W[row, col] in a packed matrix, in elements.
int64_t PackedIndex(const PackedCore& core, int64_t row, int64_t col) {
  const int64_t inner = core.dtype == DType::kF32 ? 1 : 2;
  return row / kBlockRows * (core.block_stride / static_cast<int64_t>(SizeOf(core.dtype))) +
         col / inner * inner * kBlockRows + row % kBlockRows * inner + col % inner;
}

float Element(const PackedCore& core, int64_t row, int64_t col) {
  if (core.dtype == DType::kU8) return BlockElement(core, row, col);
  const int64_t index = PackedIndex(core, row, col);
  switch (core.dtype) {
    case DType::kF32:
      return static_cast<const float*>(core.data)[index];
    case DType::kF16:
      return ToFloat(static_cast<const F16*>(core.data)[index]);
    case DType::kBF16:
      return ToFloat(static_cast<const BF16*>(core.data)[index]);
    default:
      RK_CHECK(!"packed cores are f32, f16, bf16 or block-encoded");
      return 0;
  }
}

void PackRows(const PackRowsArgs& args) {
  const MatrixView& source = args.source;
  RK_CHECK(source.dtype == args.core.dtype && source.cols == args.core.k);
  RK_CHECK(args.row_offset >= 0 && args.row_offset + source.rows <= args.core.n);
  for (int64_t row = 0; row < source.rows; ++row) {
    for (int64_t col = 0; col < source.cols; ++col) {
      const int64_t index = PackedIndex(args.core, args.row_offset + row, col);
      if (SizeOf(source.dtype) == 4) {
        static_cast<uint32_t*>(args.core.data)[index] = source.Row<uint32_t>(row)[col];
      } else {
        static_cast<uint16_t*>(args.core.data)[index] = source.Row<uint16_t>(row)[col];
      }
    }
  }
}

void GatherRows(const GatherRowsArgs& args, Stream) {
  for (int64_t t = 0; t < args.num_ids; ++t) {
    RK_CHECK(args.ids[t] >= 0 && args.ids[t] < args.core.n);
    float* out = args.out.Row<float>(t);
    for (int64_t col = 0; col < RoundUp(args.core.k, kColumnPad); ++col) {
      out[col] = col < args.core.k ? Element(args.core, args.ids[t], col) : 0.0f;
    }
  }
}

}  // namespace

void FillRefPacking(OpTable* table) {
  table->pack_rows = PackRows;
  table->pack_blocks = RefPackBlocks;
  table->gather_rows = GatherRows;
}

}  // namespace rankine
