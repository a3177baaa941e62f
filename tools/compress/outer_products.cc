// a^T b is the product y = x W^T of the engine with x = a^T and W = b^T, summed over the tokens.
// As f32 weights b^T are packed in blocks of 16 outputs, which are b's own columns in runs of 16:
// only a has to be transposed.
#include "tools/compress/outer_products.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/api/products.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "kernels/cpu/row_split.h"
#include "kernels/cpu/thread_pool.h"

namespace rankine {
namespace {

constexpr int64_t kBlock = kBlockRows;
// A cache line past a power of two, so that rows fall into different sets.
constexpr int64_t kRowStride = OuterProducts::kMaxTokens + kBlock;
// Edge of the square tiles of the sum that are a thread's unit of work: both operands (192 kB each)
// and the tile stay in the second-level cache, and of the tiles on the diagonal, whose upper half
// is of no use, 1536 features waste 6%.
constexpr int64_t kTile = 96;

// The pairs (row, column) of tiles on and below the diagonal, in order of rows.
std::pair<int64_t, int64_t> LowerTile(int64_t index) {
  int64_t row = 0;
  while (index > row) index -= ++row;
  return {row, index};
}

void CopyRow(const MatrixView& x, int64_t row, float* out) {
  if (x.dtype == DType::kF32) {
    std::copy_n(x.Row<float>(row), x.cols, out);
    return;
  }
  const BF16* in = x.Row<BF16>(row);
  for (int64_t i = 0; i < x.cols; ++i) out[i] = ToFloat(in[i]);
}

// 16 numbers: a size known here is two moves, where a call would cost more than they do.
void CopyBlock(const float* from, float* to) { std::memcpy(to, from, kBlock * sizeof(float)); }

// `work(index, scratch)` for indices [0, count), each thread with a scratch of its own.
template <class Scratch, class Work>
void ForAll(Stream stream, int64_t count, const Work& work) {
  WorkQueue queue(count, 1);
  auto run = [&](int) {
    Scratch scratch;
    for (int64_t index = 0, end = 0; queue.Next(&index, &end);) work(index, &scratch);
  };
  OnThreads(stream, run);
}

}  // namespace

OuterProducts::OuterProducts(int64_t features, const OpTable& ops, Stream stream)
    : features_(features),
      ops_(ops),
      stream_(stream),
      rows_(features * kRowStride),
      packed_(CeilDiv(features, kBlock) * kMaxTokens * kBlock) {}

// Tokens [first, first + 16) of x into rows_ and packed_.
void OuterProducts::LoadGroup(const MatrixView& x, int64_t first, bool as_rows, bool as_weights,
                              TokenGroup* scratch) {
  const int64_t count = std::min(kBlock, x.rows - first), stride = RoundUp(features_, kBlock);
  scratch->rows.resize(kBlock * stride);
  for (int64_t t = 0; t < count; ++t) CopyRow(x, first + t, scratch->rows.data() + t * stride);
  for (int64_t b = 0; as_weights && b < num_blocks(); ++b) {
    float* block = packed_.data() + (b * kMaxTokens + first) * kBlock;
    for (int64_t t = 0; t < count; ++t) {
      CopyBlock(scratch->rows.data() + t * stride + b * kBlock, block + t * kBlock);
    }
  }
  if (!as_rows) return;
  // Packing 16 tokens as outputs puts features first.
  scratch->lanes.resize(features_ * kBlock);
  ops_.pack_rows(
      {.source = {.data = scratch->rows.data(), .rows = count, .cols = features_, .stride = stride},
       .core = {.data = scratch->lanes.data(),
                .n = kBlock,
                .k = features_,
                .block_stride = PackedBlockBytes(DType::kF32, features_)}});
  for (int64_t i = 0; i < features_; ++i) {
    CopyBlock(scratch->lanes.data() + i * kBlock, rows_.data() + i * kRowStride + first);
  }
}

void OuterProducts::Load(const MatrixView& x, bool as_rows, bool as_weights) {
  RK_CHECK(x.cols == features_ && x.rows <= kMaxTokens);
  RK_CHECK(x.dtype == DType::kF32 || x.dtype == DType::kBF16);
  ForAll<TokenGroup>(stream_, CeilDiv(x.rows, kBlock), [&](int64_t index, TokenGroup* scratch) {
    LoadGroup(x, index * kBlock, as_rows, as_weights, scratch);
  });
}

void OuterProducts::AddTile(int64_t row, int64_t column, int64_t tokens,
                            std::vector<float>* scratch, Matrix64* sum) const {
  const int64_t height = std::min(kTile, features_ - row);
  const int64_t width = std::min(kTile, features_ - column);
  scratch->resize(kTile * kTile);
  const Product product{
      .weights = {.data = const_cast<float*>(Block(column / kBlock)),
                  .n = width,
                  .k = tokens,
                  .block_stride = PackedBlockBytes(DType::kF32, kMaxTokens)},
      .x = {.data = const_cast<float*>(rows_.data()) + row * kRowStride,
            .rows = height,
            .cols = tokens,
            .stride = kRowStride},
      .y = {.data = scratch->data(), .rows = height, .cols = width, .stride = kTile}};
  ops_.products({.products = &product, .num_products = 1, .num_tokens = height}, Stream{});
  for (int64_t r = 0; r < height; ++r) {
    const float* from = scratch->data() + r * kTile;
    double* to = sum->Row(row + r) + column;
    for (int64_t c = 0; c < width; ++c) to[c] += from[c];
  }
}

void OuterProducts::AddSquare(const MatrixView& x, Matrix64* sum) {
  Load(x, /*as_rows=*/true, /*as_weights=*/true);
  const int64_t edge = CeilDiv(features_, kTile);
  ForAll<std::vector<float>>(stream_, edge * (edge + 1) / 2,
                             [&](int64_t index, std::vector<float>* scratch) {
                               const auto [row, column] = LowerTile(index);
                               AddTile(row * kTile, column * kTile, x.rows, scratch, sum);
                             });
}

void OuterProducts::AddCross(const MatrixView& a, const MatrixView& b, Matrix64* sum) {
  RK_CHECK(a.rows == b.rows);
  Load(a, /*as_rows=*/true, /*as_weights=*/false);
  Load(b, /*as_rows=*/false, /*as_weights=*/true);
  const int64_t edge = CeilDiv(features_, kTile);
  ForAll<std::vector<float>>(stream_, edge * edge, [&](int64_t index, std::vector<float>* scratch) {
    AddTile(index / edge * kTile, index % edge * kTile, a.rows, scratch, sum);
  });
}

}  // namespace rankine
