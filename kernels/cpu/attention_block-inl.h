// One tile of rows against one block of 32 tokens: scores, online softmax, weighted values.
//
// What makes results independent of batching: each row's operations are the same whatever rows
// stand beside it. A score is one chain of multiply-adds over head_dim, an output element one chain
// over the tokens, in order; how many rows a register block holds only decides which chains run
// side by side. Tokens beyond a row's position are selected away from its scores and left out of
// its chains, so even NaN in unwritten slots is harmless.
#if defined(RANKINE_KERNELS_CPU_ATTENTION_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RANKINE_KERNELS_CPU_ATTENTION_BLOCK_INL_H_
#undef RANKINE_KERNELS_CPU_ATTENTION_BLOCK_INL_H_
#else
#define RANKINE_KERNELS_CPU_ATTENTION_BLOCK_INL_H_
#endif

#include <algorithm>
#include <limits>
#include <type_traits>

#include "hwy/highway.h"
#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rankine {
namespace HWY_NAMESPACE {

// Rows of a register block: two vectors of sums per row, leaving room for the operands (32
// registers with AVX-512, 16 without).
inline constexpr int kBlockRowsMax = kLanes == 16 ? 8 : 6;
inline constexpr int64_t kTokens = kKvBlockTokens;

// C[R, NV vectors] = A[R, k] B[k, NV vectors], or the same plus row_scale[r] x C. T: B's stored
// type.
template <int R, int NV, bool kAdd, class T>
HWY_INLINE void MultiplyBlock(const float* a, int64_t a_stride, const T* b, int64_t b_stride,
                              int64_t k, const float* row_scale, float* c, int64_t c_stride) {
  const DF d;
  VF sums[R][NV];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) {
      sums[r][v] = hn::Zero(d);
      if (kAdd) {
        const VF before = hn::LoadU(d, c + r * c_stride + v * static_cast<int64_t>(kLanes));
        sums[r][v] = hn::Mul(before, hn::Set(d, row_scale[r]));
      }
    }
  }
  for (int64_t i = 0; i < k; ++i) {
    VF right[NV];
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) {
      right[v] = LoadWide(b + i * b_stride + v * static_cast<int64_t>(kLanes));
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const VF left = hn::Set(d, a[r * a_stride + i]);
#pragma GCC unroll 2
      for (int v = 0; v < NV; ++v) sums[r][v] = hn::MulAdd(left, right[v], sums[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) {
      hn::StoreU(sums[r][v], d, c + r * c_stride + v * static_cast<int64_t>(kLanes));
    }
  }
}

// The operands of a product of any number of rows; width is a multiple of kLanes.
template <class T>
struct Operands {
  const float* a;
  int64_t a_stride;
  const T* b;
  int64_t b_stride;
  int64_t k;
  const float* row_scale;  // null = overwrite C
  float* c;
  int64_t c_stride;
  int64_t width;
};

template <int R, bool kAdd, class T>
HWY_NOINLINE void MultiplyRows(const Operands<T>& o, int64_t row) {
  constexpr int64_t kPair = 2 * static_cast<int64_t>(kLanes);
  const float* a = o.a + row * o.a_stride;
  const float* row_scale = kAdd ? o.row_scale + row : nullptr;
  float* c = o.c + row * o.c_stride;
  int64_t column = 0;
  for (; column + kPair <= o.width; column += kPair) {
    MultiplyBlock<R, 2, kAdd>(a, o.a_stride, o.b + column, o.b_stride, o.k, row_scale, c + column,
                              o.c_stride);
  }
  if (column < o.width) {
    MultiplyBlock<R, 1, kAdd>(a, o.a_stride, o.b + column, o.b_stride, o.k, row_scale, c + column,
                              o.c_stride);
  }
}

template <int R, bool kAdd, class T>
void MultiplyRemainder(const Operands<T>& o, int64_t row, int64_t rows) {
  if constexpr (R > 0) {
    if (rows == R) return MultiplyRows<R, kAdd>(o, row);
    MultiplyRemainder<R - 1, kAdd>(o, row, rows);
  }
}

template <bool kAdd, class T>
void Multiply(const Operands<T>& o, int64_t rows) {
  int64_t row = 0;
  for (; row + kBlockRowsMax <= rows; row += kBlockRowsMax) {
    MultiplyRows<kBlockRowsMax, kAdd>(o, row);
  }
  MultiplyRemainder<kBlockRowsMax - 1, kAdd>(o, row, rows - row);
}

// Where one (block, KV head) stands.
template <class T>
struct KvBlock {
  const T* keys;              // [head_dim, kTokens]
  const T* values;            // [kTokens, head_dim]
  const float* key_scales;    // [kTokens]; null but for i8
  const float* value_scales;  // [kTokens]; null but for i8
};

// Scores of rows [first, rows) become -infinity where the row may not look; new_max is raised to
// the largest.
template <class CountOf>
HWY_INLINE void MaskAndMax(const AttentionScratch& s, int64_t first, int64_t rows,
                           const float* key_scales, CountOf&& count_of) {
  const DF d;
  const VF never = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (int64_t r = first; r < rows; ++r) {
    float* scores = s.scores + r * kTokens;
    const int64_t count = count_of(r);
    VF largest = never;
    for (int64_t j = 0; j < kTokens; j += static_cast<int64_t>(kLanes)) {
      VF v = hn::LoadU(d, scores + j);
      if (key_scales != nullptr) v = hn::Mul(v, hn::LoadU(d, key_scales + j));
      if (count < kTokens) {
        const int64_t left = std::max<int64_t>(count - j, 0);
        v = hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(left)), v, never);
      }
      hn::StoreU(v, d, scores + j);
      largest = hn::Max(v, largest);  // of a NaN and a number, x86 takes the second
    }
    s.new_max[r] = std::max(s.max[r], Max(largest));
  }
}

// correction = e^(max - new_max), max = new_max. Writes whole vectors, so up to a vector beyond
// `rows`.
HWY_INLINE void Correct(const AttentionScratch& s, int64_t first, int64_t rows) {
  const DF d;
  for (int64_t r = first; r < rows; r += static_cast<int64_t>(kLanes)) {
    const VF new_max = hn::LoadU(d, s.new_max + r);
    const VF x = hn::Sub(hn::LoadU(d, s.max + r), new_max);
    hn::StoreU(ExpNonPositive(x), d, s.correction + r);
    hn::StoreU(new_max, d, s.max + r);
  }
}

// Scores become weights e^(score - max), times the values' scales; the rows' sums take them in
// unscaled.
HWY_INLINE void Weigh(const AttentionScratch& s, int64_t first, int64_t rows,
                      const float* value_scales) {
  const DF d;
  for (int64_t r = first; r < rows; ++r) {
    float* scores = s.scores + r * kTokens;
    float* lane_sums = s.lane_sums + r * kColumnPad;
    const VF max = hn::Set(d, s.max[r]);
    VF sum = hn::Mul(hn::LoadU(d, lane_sums), hn::Set(d, s.correction[r]));
    for (int64_t j = 0; j < kTokens; j += static_cast<int64_t>(kLanes)) {
      VF weight = ExpNonPositive(hn::Sub(hn::LoadU(d, scores + j), max));
      sum = hn::Add(sum, weight);
      if (value_scales != nullptr) weight = hn::Mul(weight, hn::LoadU(d, value_scales + j));
      hn::StoreU(weight, d, scores + j);
    }
    hn::StoreU(sum, d, lane_sums);
  }
}

// Keys or values of a block as f32, rows of `cols` numbers `to_stride` apart. cols is a multiple of
// kLanes, or the last vector of each row is filled up with zeros.
template <class T>
void Widen(const T* from, int64_t rows, int64_t cols, float* to, int64_t to_stride) {
  constexpr int64_t kStep = static_cast<int64_t>(kLanes);
  for (int64_t r = 0; r < rows; ++r, from += cols, to += to_stride) {
    int64_t i = 0;
    for (; i + kStep <= cols; i += kStep) hn::StoreU(LoadWide(from + i), DF(), to + i);
    if (i == cols) continue;
    T tail[kLanes] = {};
    std::copy(from + i, from + cols, tail);
    hn::StoreU(LoadWide(tail), DF(), to + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace rankine
HWY_AFTER_NAMESPACE();

#endif  // include guard
