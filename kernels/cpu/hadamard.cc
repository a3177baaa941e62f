// The randomised Hadamard transform, a row at a time in passes of up to kLanes-way butterflies. The
// first pass applies a small matrix to each run of columns (H_q kron B, or for b = 1 the strides
// within a vector) and the first butterflies in the same registers; the last one applies signs and
// adds. A row of thousands of columns is read and written two or three times, in L1.
//
// The order of operations of an element is that of the definition, whatever the radix: products
// with H_q kron B summed over ascending columns, then butterflies from the smallest stride up. So a
// result depends on the row alone, and is the same on every instruction set.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/hwy_baseline.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/hadamard.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/row_forms-inl.h"
#include "kernels/cpu/row_split.h"
#include "kernels/cpu/simd-inl.h"

#ifndef RANKINE_KERNELS_CPU_HADAMARD_CC_SHARED_
#define RANKINE_KERNELS_CPU_HADAMARD_CC_SHARED_
namespace rankine {

// Columns of the matrix H_q kron B of the first pass, where q may be chosen: a vector of AVX-512.
// The same on every instruction set, because it decides which sums are products.
inline constexpr int64_t kUnitColumns = 16;
// Of the values of one step of the first pass, signed and in f32: 16 kB, a third of L1.
inline constexpr int64_t kStepValues = 4096;

}  // namespace rankine
#endif

HWY_BEFORE_NAMESPACE();
namespace rankine {
namespace HWY_NAMESPACE {
namespace {

// As many rows as half of the registers hold.
constexpr int kMaxBits = kLanes == 16 ? 4 : 3;

// Row of the transform as [units][unit columns].
struct Units {
  int64_t columns = 0, count = 0;  // count: a power of two
  // Column j of what each unit is multiplied by, at matrix + j * stride; null: butterflies of the
  // strides 1 to columns / 2, columns = kLanes.
  const float* matrix = nullptr;
  int64_t stride = 0;
  alignas(64) float dense[kUnitColumns * kUnitColumns];
};

void SetUnits(const HadamardArgs& args, Units* units) {
  const int64_t b = args.block_size, powers = args.x.cols / b;
  if (b == 1 && powers >= kUnitColumns) {
    units->columns = kStep;
    units->count = powers / kStep;
    return;
  }
  if (b > kUnitColumns) {
    units->columns = units->stride = b;
    units->count = powers;
    units->matrix = args.block;
    return;
  }
  int64_t q = 1;
  while (2 * q * b <= kUnitColumns && 2 * q <= powers) q *= 2;
  units->columns = q * b;
  units->count = powers / q;
  units->matrix = units->dense;
  units->stride = kUnitColumns;
  std::fill(units->dense, units->dense + kUnitColumns * kUnitColumns, 0.0f);
  // Without divisions: this runs for each call, which may have one row.
  for (int64_t to = 0; to < q; ++to) {
    for (int64_t from = 0; from < q; ++from) {
      const float sign = __builtin_popcountll(static_cast<uint64_t>(to & from)) % 2 != 0 ? -1 : 1;
      float* part = units->dense + from * b * kUnitColumns + to * b;
      for (int64_t j = 0; j < b; ++j) {
        for (int64_t i = 0; i < b; ++i)
          part[j * kUnitColumns + i] = args.block == nullptr ? sign : sign * args.block[j * b + i];
      }
    }
  }
}

// Strides 1 to kRadix / 2 over an array of registers.
template <int kRadix>
HWY_INLINE void Butterflies(VF (&v)[kRadix]) {
#pragma GCC unroll 4
  for (int stride = 1; stride < kRadix; stride *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < kRadix; ++i) {
      if ((i & stride) != 0) continue;
      const VF low = v[i], high = v[i + stride];
      v[i] = hn::Add(low, high);
      v[i + stride] = hn::Sub(low, high);
    }
  }
}

// Lanes whose number has the bit `stride` become other - v, the others other + v: exactly the sums
// and differences of a butterfly.
HWY_INLINE VF Combine(VF v, VF other, int stride) {
  const DI d;
  const auto bit = hn::And(hn::Iota(d, 0), hn::Set(d, stride));
  const auto sign = hn::IfThenElseZero(hn::Ne(bit, hn::Zero(d)), hn::Set(d, INT32_MIN));
  return hn::Add(other, hn::Xor(v, hn::BitCast(DF(), sign)));
}

// Strides 1 to kLanes / 2 within a register.
HWY_INLINE VF LaneButterflies(VF v) {
  const DF d;
  v = Combine(v, hn::Shuffle2301(v), 1);
  v = Combine(v, hn::Shuffle1032(v), 2);
  v = Combine(v, hn::SwapAdjacentBlocks(v), 4);
  if constexpr (kLanes == 16) v = Combine(v, hn::ConcatLowerUpper(d, v, v), 8);
  return v;
}

// What a pass does with a value: columns [i, i + count) of the row.
struct Between {
  float* row;
  HWY_INLINE void operator()(VF v, int64_t i, size_t count) const {
    if (count >= kLanes) return hn::StoreU(v, DF(), row + i);
    hn::BlendedStore(v, hn::FirstN(DF(), count), DF(), row + i);
  }
};

struct Last {
  float* row;
  const float* signs;  // null: none
  const float* bias;   // null: none
  bool accumulate;

  HWY_INLINE void operator()(VF v, int64_t i, size_t count) const {
    if (signs != nullptr) v = hn::Mul(v, LoadUpTo(signs + i, count));
    if (bias != nullptr) v = hn::Add(v, LoadUpTo(bias + i, count));
    if (accumulate) v = hn::Add(v, LoadUpTo(row + i, count));
    Between{row}(v, i, count);
  }
};

// A row's transform.
class RowTransform {
 public:
  RowTransform(const HadamardArgs& args, const Units& units)
      : args_(args),
        units_(units),
        norm_(1.0f / std::sqrt(static_cast<float>(args.x.cols / args.block_size))) {}

  // `between` [n] holds what the passes hand on; may be the row of x or `out`, unless that is added
  // to.
  void Run(int64_t row, float* between, float* out) const {
    const Last last{out, args_.transposed ? args_.signs : nullptr, args_.bias, args_.accumulate};
    // The strides that are left, shared out among the fewest passes.
    int bits = __builtin_ctzll(static_cast<uint64_t>(units_.count));
    int radix_bits = BitsOfPass(bits);
    // What a step of the first pass holds is bounded.
    while (units_.columns << radix_bits > kStepValues && radix_bits > 0) --radix_bits;
    int64_t stride = units_.columns << radix_bits;
    bits -= radix_bits;
    bits == 0 ? First(radix_bits, row, last) : First(radix_bits, row, Between{between});
    while (bits > 0) {
      radix_bits = BitsOfPass(bits);
      bits -= radix_bits;
      bits == 0 ? Later(radix_bits, stride, between, last)
                : Later(radix_bits, stride, between, Between{between});
      stride <<= radix_bits;
    }
  }

 private:
  static int BitsOfPass(int bits) {
    const int passes = (bits + kMaxBits - 1) / kMaxBits;
    return passes == 0 ? 0 : (bits + passes - 1) / passes;
  }

  template <class Store>
  void First(int radix_bits, int64_t row, const Store& store) const {
    switch (radix_bits) {
      case 0:
        return FirstPass<1>(row, store);
      case 1:
        return FirstPass<2>(row, store);
      case 2:
        return FirstPass<4>(row, store);
      case 3:
        return FirstPass<8>(row, store);
      default:
        return FirstPass<1 << kMaxBits>(row, store);
    }
  }

  template <class Store>
  void Later(int radix_bits, int64_t stride, const float* from, const Store& store) const {
    switch (radix_bits) {
      case 1:
        return LaterPass<2>(stride, from, store);
      case 2:
        return LaterPass<4>(stride, from, store);
      case 3:
        return LaterPass<8>(stride, from, store);
      default:
        return LaterPass<1 << kMaxBits>(stride, from, store);
    }
  }

  // Columns [first, first + count) of x, scaled and signed.
  void Values(int64_t row, int64_t first, int64_t count, float* values) const {
    args_.x.dtype == DType::kF32 ? Values(args_.x.Row<float>(row), row, first, count, values)
                                 : Values(args_.x.Row<BF16>(row), row, first, count, values);
  }

  template <class T>
  void Values(const T* x, int64_t row, int64_t first, int64_t count, float* values) const {
    const DF d;
    const VF norm = hn::Set(d, norm_);
    const float* signs = args_.signs + first;
    x += first;
    int64_t i = 0;
    if (args_.transposed) {
      for (; i + kStep <= count; i += kStep)
        hn::StoreU(hn::Mul(LoadWide(x + i), norm), d, values + i);
    } else {
      for (; i + kStep <= count; i += kStep) {
        const VF v = hn::Mul(LoadWide(x + i), norm);
        hn::StoreU(hn::Mul(v, hn::LoadU(d, signs + i)), d, values + i);
      }
    }
    if (i == count) return;
    const auto rest = static_cast<size_t>(count - i);
    const VF v = hn::Mul(LoadValues(args_.x, row, first + i, rest), norm);
    hn::StoreU(args_.transposed ? v : hn::Mul(v, LoadUpTo(signs + i, rest)), d, values + i);
  }

  template <int kRadix, class Store>
  void FirstPass(int64_t row, const Store& store) const {
    const int64_t total = kRadix * units_.columns;
    alignas(64) float values[kStepValues + kLanes];
    for (int64_t first = 0; first < args_.x.cols; first += total) {
      Values(row, first, total, values);
      units_.matrix == nullptr ? LaneStep<kRadix>(values, first, store)
                               : MatrixStep<kRadix>(values, first, store);
    }
  }

  template <int kRadix, class Store>
  HWY_INLINE void LaneStep(const float* values, int64_t first, const Store& store) const {
    VF v[kRadix];
#pragma GCC unroll 16
    for (int r = 0; r < kRadix; ++r) v[r] = LaneButterflies(hn::Load(DF(), values + r * kStep));
    Butterflies(v);
#pragma GCC unroll 16
    for (int r = 0; r < kRadix; ++r) store(v[r], first + r * kStep, kLanes);
  }

  // kRadix units: outputs stay in registers, 16 (8) columns of each, while the columns of the
  // matrix pass; values are broadcast.
  template <int kRadix, class Store>
  HWY_INLINE void MatrixStep(const float* values, int64_t first, const Store& store) const {
    const int64_t columns = units_.columns;
    for (int64_t c = 0; c < columns; c += kStep) {
      const auto count = static_cast<size_t>(std::min(kStep, columns - c));
      // The matrix in `dense` is padded with zeros.
      const bool whole = count == kLanes || units_.matrix == units_.dense;
      whole ? MultiplyUnits<kRadix>(values, c, kLanes, count, first, store)
            : MultiplyUnits<kRadix>(values, c, count, count, first, store);
    }
  }

  template <int kRadix, class Store>
  HWY_INLINE void MultiplyUnits(const float* values, int64_t c, size_t matrix_count, size_t count,
                                int64_t first, const Store& store) const {
    const DF d;
    const int64_t columns = units_.columns;
    const float* matrix = units_.matrix + c;
    VF v[kRadix];
    VF column = LoadUpTo(matrix, matrix_count);
#pragma GCC unroll 16
    for (int r = 0; r < kRadix; ++r) v[r] = hn::Mul(column, hn::Set(d, values[r * columns]));
    for (int64_t j = 1; j < columns; ++j) {
      column = LoadUpTo(matrix + j * units_.stride, matrix_count);
#pragma GCC unroll 16
      for (int r = 0; r < kRadix; ++r)
        v[r] = hn::MulAdd(column, hn::Set(d, values[r * columns + j]), v[r]);
    }
    Butterflies(v);
#pragma GCC unroll 16
    for (int r = 0; r < kRadix; ++r) store(v[r], first + r * columns + c, count);
  }

  template <int kRadix, class Store>
  void LaterPass(int64_t stride, const float* from, const Store& store) const {
    for (int64_t first = 0; first < args_.x.cols; first += kRadix * stride) {
      int64_t c = 0;
      for (; c + kStep <= stride; c += kStep)
        LaterStep<kRadix>(stride, from, first + c, kLanes, store);
      if (c < stride)
        LaterStep<kRadix>(stride, from, first + c, static_cast<size_t>(stride - c), store);
    }
  }

  template <int kRadix, class Store>
  HWY_INLINE void LaterStep(int64_t stride, const float* from, int64_t i, size_t count,
                            const Store& store) const {
    VF v[kRadix];
#pragma GCC unroll 16
    for (int r = 0; r < kRadix; ++r) v[r] = LoadUpTo(from + i + r * stride, count);
    Butterflies(v);
#pragma GCC unroll 16
    for (int r = 0; r < kRadix; ++r) store(v[r], i + r * stride, count);
  }

  const HadamardArgs& args_;
  const Units& units_;
  const float norm_;
};

// `scratch` is one row for all of these.
void HadamardRows(const HadamardArgs& args, const Units& units, int64_t begin, int64_t end) {
  const int64_t n = args.x.cols;
  const RowTransform transform(args, units);
  const bool in_place = args.out.data != nullptr && !args.accumulate;
  for (int64_t row = begin; row < end; ++row) {
    float* between = in_place ? args.out.Row<float>(row) : args.scratch.Row<float>(begin);
    float* out = args.out.data != nullptr ? args.out.Row<float>(row) : between;
    transform.Run(row, between, out);
    WriteRow(args.quantized, row,
             [&](int64_t i, size_t count) HWY_ATTR { return LoadUpTo(out + i, count); });
    if (args.out.data != nullptr) std::fill(out + n, out + RoundUp(n, kColumnPad), 0.0f);
  }
}

void Hadamard(const HadamardArgs& args, Stream stream) {
  const int64_t n = args.x.cols, powers = n / args.block_size;
  RK_CHECK(powers * args.block_size == n && (powers & (powers - 1)) == 0);
  RK_CHECK(args.block_size <= kMaxHadamardBlock && (args.block != nullptr || args.block_size == 1));
  RK_CHECK(args.out.data == nullptr || args.out.dtype == DType::kF32);
  RK_CHECK((args.out.data != nullptr && !args.accumulate) || args.scratch.data != nullptr);
  RK_CHECK(!args.accumulate || (args.out.data != nullptr && args.scratch.data != args.out.data));
  RK_CHECK(args.quantized.data == nullptr || (args.bias == nullptr && !args.accumulate));
  Units units;
  SetUnits(args, &units);
  // Beside the passes, a multiply-add an element and column of the matrix.
  const int64_t cost = 4 + (units.matrix == nullptr ? 0 : units.columns / 8);
  ForRows(stream, args.x.rows, cost * n,
          [&](int64_t begin, int64_t end) { HadamardRows(args, units, begin, end); });
}

}  // namespace

void FillHadamard(OpTable* table) { table->hadamard = Hadamard; }

}  // namespace HWY_NAMESPACE
}  // namespace rankine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rankine {

void FillHadamardAvx2(OpTable* table) { N_AVX2::FillHadamard(table); }
void FillHadamardAvx512(OpTable* table) { N_AVX3::FillHadamard(table); }

}  // namespace rankine
#endif
