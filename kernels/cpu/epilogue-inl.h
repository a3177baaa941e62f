// What follows the sums of a product: scale, bias, addition to what is there, the dtype and the
// layout of y. Included once per instruction set (Highway's foreach_target), hence the toggled
// guard.
#if defined(RANKINE_KERNELS_CPU_EPILOGUE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RANKINE_KERNELS_CPU_EPILOGUE_INL_H_
#undef RANKINE_KERNELS_CPU_EPILOGUE_INL_H_
#else
#define RANKINE_KERNELS_CPU_EPILOGUE_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/cpu/products_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace rankine {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::CappedTag<float, 16>;
using DU32 = hn::RebindToUnsigned<DF>;
using DH = hn::Rebind<uint16_t, DF>;
using VF = hn::Vec<DF>;

constexpr int kLanes = HWY_LANES(float);
constexpr int kParts = 16 / kLanes;  // registers per block and column

// Rounds to nearest even as ToBF16 does, NaN included.
HWY_INLINE hn::Vec<DH> RoundBF16(VF value) {
  const DU32 du;
  const auto bits = hn::BitCast(du, value);
  const auto high = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(high, hn::Set(du, 1u));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fffu))));
  const auto is_nan = hn::RebindMask(du, hn::IsNaN(value));
  const auto result = hn::IfThenElse(is_nan, hn::Or(high, hn::Set(du, 0x40u)), rounded);
  // As i32 the values fit 16 bits unsigned, so the saturating demotion is exact.
  return hn::DemoteTo(DH(), hn::BitCast(hn::RebindToSigned<DU32>(), result));
}

// (c * scale + bias) of columns [first, first + kLanes) of the product.
HWY_INLINE VF Finish(const Product& product, int64_t column, VF value) {
  if (product.scale != nullptr) value = hn::Mul(value, hn::LoadU(DF(), product.scale + column));
  if (product.bias != nullptr) value = hn::Add(value, hn::LoadU(DF(), product.bias + column));
  return value;
}

HWY_INLINE void StoreOutput(const Product& product, int64_t index, VF value) {
  if (product.y.dtype == DType::kBF16) {
    return hn::StoreU(RoundBF16(value), DH(), static_cast<uint16_t*>(product.y.data) + index);
  }
  float* y = static_cast<float*>(product.y.data) + index;
  if (product.accumulate) value = hn::Add(value, hn::LoadU(DF(), y));
  hn::StoreU(value, DF(), y);
}

// The same for the first `count` of 16 finished values, one at a time.
void StoreSome(const Product& product, int64_t index, const float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (product.y.dtype == DType::kBF16) {
      static_cast<BF16*>(product.y.data)[index + i] = ToBF16(values[i]);
    } else {
      float& y = static_cast<float*>(product.y.data)[index + i];
      y = product.accumulate ? values[i] + y : values[i];
    }
  }
}

// A block of 16 columns of which a run takes only a part, or which the row does not fill.
void StoreBlockInRuns(const Product& product, int64_t base, int64_t column, const float* values) {
  const int64_t n = product.weights.n, run = product.run == 0 ? n : product.run;
  const int64_t end = std::min(n, column + kBlockRows);
  // One division a block: they cost more than the stores.
  int64_t at = column % run;
  int64_t index = base + column / run * product.run_stride;
  while (column < end) {
    const int64_t count = std::min(end - column, run - at);
    StoreSome(product, index + at, values, count);
    values += count;
    column += count;
    at = 0;
    index += product.run_stride;
  }
}

void EpilogueRow(const EpilogueArgs& args, const float* c, int64_t base, bool plain) {
  const Product& product = *args.product;
  const int64_t first = args.first_block * kBlockRows;
  for (int64_t b = 0; b < args.blocks; ++b) {
    const int64_t column = first + b * kBlockRows;
    int64_t index = base + column;
    bool whole = plain;
    if (product.run != 0) {
      index = base + column / product.run * product.run_stride + column % product.run;
      whole = product.run % kBlockRows == 0;
    }
    alignas(64) float values[kBlockRows];
    for (int p = 0; p < kParts; ++p) {
      const int64_t offset = p * kLanes;
      const VF value =
          Finish(product, column + offset, hn::LoadU(DF(), c + b * args.c_block_stride + offset));
      if (whole) {
        StoreOutput(product, index + offset, value);
      } else {
        hn::Store(value, DF(), values + offset);
      }
    }
    if (!whole) StoreBlockInRuns(product, base, column, values);
  }
}

// Where a part of a block of 16 columns goes: lanes [from, from + count) to `offset` and on from
// the place of a row.
struct Piece {
  int64_t offset = 0, from = 0, count = 0;
#if HWY_TARGET != HWY_AVX2
  // The lanes: made once a block, not once a row.
  hn::Mask<DF> lanes;
  hn::Mask<DH> lanes16;
#endif
};

HWY_INLINE Piece MakePiece(int64_t offset, int64_t from, int64_t count) {
  Piece piece{.offset = offset, .from = from, .count = count};
#if HWY_TARGET != HWY_AVX2
  const auto begin = static_cast<size_t>(from), end = static_cast<size_t>(from + count);
  piece.lanes = hn::AndNot(hn::FirstN(DF(), begin), hn::FirstN(DF(), end));
  piece.lanes16 = hn::AndNot(hn::FirstN(DH(), begin), hn::FirstN(DH(), end));
#endif
  return piece;
}

// The pieces of a block for runs of at least kMinPieceRun columns.
struct Pieces {
  Piece pieces[3];
  int count = 0;

  Pieces(const Product& product, int64_t column) {
    const int64_t end = std::min(product.weights.n, column + kBlockRows);
    for (int64_t at = column; at < end; ++count) {
      const int64_t here = std::min(end - at, product.run - at % product.run);
      pieces[count] =
          MakePiece(at / product.run * product.run_stride + at % product.run, at - column, here);
      at += here;
    }
  }
};
constexpr int64_t kMinPieceRun = 8;

#if HWY_TARGET == HWY_AVX2
// Without masked stores of 16 bits, lane by lane.
HWY_INLINE void StorePiece(const Product& product, int64_t index, const VF* value,
                           const Piece& piece) {
  alignas(64) float values[kBlockRows];
  for (int p = 0; p < kParts; ++p) hn::Store(value[p], DF(), values + p * kLanes);
  StoreSome(product, index, values + piece.from, piece.count);
}
#else
HWY_INLINE void StorePiece(const Product& product, int64_t index, const VF* value,
                           const Piece& piece) {
  if (product.y.dtype == DType::kBF16) {
    hn::BlendedStore(RoundBF16(*value), piece.lanes16, DH(),
                     static_cast<uint16_t*>(product.y.data) + index - piece.from);
    return;
  }
  float* y = static_cast<float*>(product.y.data) + index - piece.from;
  const VF sum =
      product.accumulate ? hn::Add(*value, hn::MaskedLoad(piece.lanes, DF(), y)) : *value;
  hn::BlendedStore(sum, piece.lanes, DF(), y);
}
#endif

// Rows innermost, since the runs of neighbouring rows follow each other in y while those of a row
// are run_stride apart, often a large power of two that one set of the cache must hold; and what
// divides is done once a block.
void EpilogueRuns(const EpilogueArgs& args) {
  const Product product = *args.product;  // a copy, which stores to y can't change
  const int64_t rows = product.rows_per_token;
  const int64_t first_token = args.first_row / rows, first_row = args.first_row % rows;
  for (int64_t b = 0; b < args.blocks; ++b) {
    const int64_t column = (args.first_block + b) * kBlockRows;
    const Pieces pieces(product, column);
    const bool whole = pieces.pieces[0].count == kBlockRows;
    const float* c = args.c + b * args.c_block_stride;
    int64_t token = first_token, row = first_row;
    for (int64_t r = 0; r < args.rows; ++r, c += args.c_stride) {
      const int64_t base = token * product.y.stride + row * product.run;
      VF value[kParts];
      for (int p = 0; p < kParts; ++p) {
        const int64_t lane = p * kLanes;
        value[p] = Finish(product, column + lane, hn::LoadU(DF(), c + lane));
        if (whole) StoreOutput(product, base + pieces.pieces[0].offset + lane, value[p]);
      }
      for (int i = 0; !whole && i < pieces.count; ++i) {
        StorePiece(product, base + pieces.pieces[i].offset, value, pieces.pieces[i]);
      }
      if (++row == rows) {
        row = 0;
        ++token;
      }
    }
  }
}

// One column of a run of one at a time: its rows follow each other in y.
void EpilogueColumns(const EpilogueArgs& args) {
  const Product& product = *args.product;
  const int64_t rows = product.rows_per_token;
  for (int64_t r = 0; r < args.rows;) {
    const int64_t token = (args.first_row + r) / rows, row = (args.first_row + r) % rows;
    const int64_t count = std::min(rows - row, args.rows - r);
    for (int64_t i = 0; i < args.blocks * kBlockRows; ++i) {
      const int64_t column = args.first_block * kBlockRows + i;
      if (column >= product.weights.n) break;
      const float scale = product.scale == nullptr ? 1.0f : product.scale[column];
      const float bias = product.bias == nullptr ? 0.0f : product.bias[column];
      const int64_t index = token * product.y.stride + column * product.run_stride + row;
      const float* c =
          args.c + r * args.c_stride + i / kBlockRows * args.c_block_stride + i % kBlockRows;
      for (int64_t k = 0; k < count; ++k, c += args.c_stride) {
        const float value = *c * scale + bias;
        StoreSome(product, index + k, &value, 1);
      }
    }
    r += count;
  }
}

void Epilogue(const EpilogueArgs& args) {
  const Product& product = *args.product;
  const int64_t rows = product.rows_per_token,
                run = product.run == 0 ? product.weights.n : product.run;
  // Only rows of their own may write pads.
  const bool plain = rows == 1 && product.run == 0;
  if (product.run >= kMinPieceRun) return EpilogueRuns(args);
  if (product.run == 1) return EpilogueColumns(args);
  for (int64_t r = 0; r < args.rows; ++r) {
    const int64_t row = args.first_row + r;
    const int64_t base =
        plain ? row * product.y.stride : row / rows * product.y.stride + row % rows * run;
    EpilogueRow(args, args.c + r * args.c_stride, base,
                plain || product.weights.n % kBlockRows == 0);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace rankine
HWY_AFTER_NAMESPACE();

#endif  // include guard
