// Rows of activations as row-wise ops write them: f32, bf16 or quantised records, pads zero.
// Included once per instruction set (Highway's foreach_target), hence the toggled guard.
#if defined(RANKINE_KERNELS_CPU_ROW_FORMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RANKINE_KERNELS_CPU_ROW_FORMS_INL_H_
#undef RANKINE_KERNELS_CPU_ROW_FORMS_INL_H_
#else
#define RANKINE_KERNELS_CPU_ROW_FORMS_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/api/quantized_rows.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "kernels/base/tensor_view.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rankine {
namespace HWY_NAMESPACE {

inline constexpr int64_t kStep = static_cast<int64_t>(kLanes);

// `count` values of a row of f32 or bf16, without touching what lies beyond.
HWY_INLINE VF LoadValues(const MatrixView& x, int64_t row, int64_t i, size_t count) {
  if (x.dtype == DType::kF32) return LoadUpTo(x.Row<float>(row) + i, count);
  const BF16* from = x.Row<BF16>(row) + i;
  if (count >= kLanes) return LoadWide(from);
  alignas(64) float values[kLanes] = {};
  for (size_t j = 0; j < count; ++j) values[j] = ToFloat(from[j]);
  return hn::Load(DF(), values);
}

// Stores value(i, count) at each vector of columns; beyond n come zeros, because every value()
// loads zeros there.
template <class T, class F>
HWY_INLINE void StoreRow(T* to, int64_t n, F&& value) {
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) StoreNarrow(value(i, kLanes), to + i);
  for (; i < RoundUp(n, kColumnPad); i += kStep) {
    const size_t count = i < n ? static_cast<size_t>(n - i) : 0;
    StoreNarrow(hn::IfThenElseZero(hn::FirstN(DF(), count), value(i, count)), to + i);
  }
}

// Rounds a record's worth of values (zeros beyond the row's end) as quantized_rows.h says.
inline void QuantizeRecord(const float* values, QuantizedRecord* record) {
  const DF d;
  const hn::Rebind<int8_t, DF> d8;
  const hn::Rebind<uint8_t, DF> du8;
  const hn::Repartition<uint64_t, decltype(du8)> du64;
  VF largest = hn::Zero(d);
  for (int64_t i = 0; i < kRecordColumns; i += kStep) {
    largest = hn::Max(largest, hn::Abs(hn::LoadU(d, values + i)));
  }
  const float max = Max(largest);
  record->scale = max / 127.0f;
  const VF inverse = hn::Set(d, max > 0 ? 127.0f / max : 0.0f);
  alignas(64) uint64_t sums[kRecordColumns / 8];  // of 8 codes each, 128 added to every code
  for (int64_t i = 0; i < kRecordColumns; i += kStep) {
    const auto rounded = hn::NearestInt(hn::Mul(hn::LoadU(d, values + i), inverse));
    const auto codes = hn::Max(hn::DemoteTo(d8, rounded), hn::Set(d8, int8_t{-127}));
    hn::StoreU(codes, d8, record->codes + i);
    const auto shifted = hn::Xor(hn::BitCast(du8, codes), hn::Set(du8, uint8_t{128}));
    hn::StoreU(hn::SumsOf8(shifted), du64, sums + i / 8);
  }
  int32_t minus[4];
  for (int64_t part = 0; part < 4; ++part) {
    minus[part] = 16 * 128 - static_cast<int32_t>(sums[2 * part] + sums[2 * part + 1]);
    record->minus_sums16[part] = minus[part];
  }
  record->minus_sums32[0] = minus[0] + minus[1];
  record->minus_sums32[1] = minus[2] + minus[3];
  record->minus_sum64 = record->minus_sums32[0] + record->minus_sums32[1];
}

template <class F>
void QuantizeRow(int8_t* to, int64_t n, F&& value) {
  auto* records = reinterpret_cast<QuantizedRecord*>(to);
  alignas(64) float values[kRecordColumns];
  for (int64_t first = 0; first < n; first += kRecordColumns) {
    const int64_t count = std::min(kRecordColumns, n - first);
    if (count == kRecordColumns) {
      for (int64_t i = 0; i < kRecordColumns; i += kStep)
        hn::Store(value(first + i, kLanes), DF(), values + i);
      QuantizeRecord(values, records++);
      continue;
    }
    for (int64_t i = 0; i < kRecordColumns; i += kStep) {
      const size_t lanes = i < count ? static_cast<size_t>(std::min(kStep, count - i)) : 0;
      const VF v = lanes == 0 ? hn::Zero(DF()) : value(first + i, lanes);
      hn::Store(hn::IfThenElseZero(hn::FirstN(DF(), lanes), v), DF(), values + i);
    }
    QuantizeRecord(values, records++);
  }
}

// value(i, count) for all columns of a row, in the form of `out`; nothing where its data is null.
template <class F>
void WriteRow(const MatrixView& out, int64_t row, F&& value) {
  if (out.data == nullptr) return;
  if (out.dtype == DType::kI8) return QuantizeRow(out.Row<int8_t>(row), out.cols, value);
  if (out.dtype == DType::kBF16) return StoreRow(out.Row<BF16>(row), out.cols, value);
  RK_CHECK(out.dtype == DType::kF32);
  StoreRow(out.Row<float>(row), out.cols, value);
}

// Both forms of a row; values are computed twice, which costs less than a buffer.
template <class F>
void WriteForms(const MatrixView& out, const MatrixView& quantized, int64_t row, F&& value) {
  WriteRow(out, row, value);
  WriteRow(quantized, row, value);
}

}  // namespace HWY_NAMESPACE
}  // namespace rankine
HWY_AFTER_NAMESPACE();

#endif  // include guard
