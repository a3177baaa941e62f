// RMSNorm, SwiGLU's product and conversion, a row at a time. A row's result depends on the row and
// the instruction set alone, never on the batch.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/hwy_baseline.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/row_forms-inl.h"
#include "kernels/cpu/row_split.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rankine {
namespace HWY_NAMESPACE {
namespace {

// In four running sums of vectors, then across lanes: an order fixed by n.
float SumOfSquares(const float* x, int64_t n) {
  const DF d;
  VF sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  int64_t i = 0;
  for (; i + 4 * kStep <= n; i += 4 * kStep) {
    for (int64_t j = 0; j < 4; ++j) {
      const VF v = hn::LoadU(d, x + i + j * kStep);
      sums[j] = hn::MulAdd(v, v, sums[j]);
    }
  }
  for (; i < n; i += kStep) {
    const VF v = LoadUpTo(x + i, static_cast<size_t>(n - i));
    sums[0] = hn::MulAdd(v, v, sums[0]);
  }
  return Sum(hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])));
}

void RmsNormRows(const RmsNormArgs& args, int64_t begin, int64_t end) {
  const int64_t n = args.x.cols;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x.Row<float>(row);
    const float mean = SumOfSquares(x, n) / static_cast<float>(n);
    const VF inverse = hn::Set(DF(), 1.0f / std::sqrt(mean + args.eps));
    WriteForms(args.out, args.quantized, row, [&](int64_t i, size_t count) HWY_ATTR {
      const VF v = LoadUpTo(x + i, count);
      return hn::Mul(hn::Mul(v, inverse), LoadUpTo(args.weight + i, count));
    });
  }
}

void SiluMulRows(const SiluMulArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* gate = args.gate.Row<float>(row);
    const float* up = args.up.Row<float>(row);
    // `out` may alias gate: the quantised form comes first.
    auto value = [&](int64_t i, size_t count) HWY_ATTR {
      const VF v = LoadUpTo(gate + i, count);
      const VF denominator = hn::Add(hn::Set(DF(), 1.0f), ExpFull(hn::Neg(v)));
      return hn::Mul(hn::Div(v, denominator), LoadUpTo(up + i, count));
    };
    WriteRow(args.quantized, row, value);
    WriteRow(args.out, row, value);
  }
}

// `count` values of a row of f32 or bf16, without touching what lies beyond.
HWY_INLINE VF LoadValues(const MatrixView& x, int64_t row, int64_t i, size_t count) {
  if (x.dtype == DType::kF32) return LoadUpTo(x.Row<float>(row) + i, count);
  const BF16* from = x.Row<BF16>(row) + i;
  if (count >= kLanes) return LoadWide(from);
  alignas(64) float values[kLanes] = {};
  for (size_t j = 0; j < count; ++j) values[j] = ToFloat(from[j]);
  return hn::Load(DF(), values);
}

void ConvertRows(const ConvertArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    WriteRow(args.out, row,
             [&](int64_t i, size_t count) HWY_ATTR { return LoadValues(args.x, row, i, count); });
  }
}

void PermuteRows(const PermuteArgs& args, int64_t begin, int64_t end) {
  const int64_t n = args.out.cols;
  for (int64_t row = begin; row < end; ++row) {
    float* out = args.out.Row<float>(row);
    if (args.x.dtype == DType::kF32) {
      const float* x = args.x.Row<float>(row);
      for (int64_t i = 0; i < n; ++i) out[i] = x[args.indices[i]];
    } else {
      const BF16* x = args.x.Row<BF16>(row);
      for (int64_t i = 0; i < n; ++i) out[i] = ToFloat(x[args.indices[i]]);
    }
    std::fill(out + n, out + RoundUp(n, kColumnPad), 0.0f);
  }
}

// Butterflies over the slow index of x[powers][b], in place: strides from the smallest up, so that
// the order of additions is fixed.
void Butterflies(float* x, int64_t powers, int64_t b) {
  const DF d;
  for (int64_t stride = b; stride < powers * b; stride *= 2) {
    for (int64_t base = 0; base < powers * b; base += 2 * stride) {
      float* low = x + base;
      float* high = low + stride;
      int64_t i = 0;
      for (; i + kStep <= stride; i += kStep) {
        const VF u = hn::LoadU(d, low + i), v = hn::LoadU(d, high + i);
        hn::StoreU(hn::Add(u, v), d, low + i);
        hn::StoreU(hn::Sub(u, v), d, high + i);
      }
      for (; i < stride; ++i) {
        const float u = low[i], v = high[i];
        low[i] = u + v;
        high[i] = u - v;
      }
    }
  }
}

// y = B x for each run of b (B^T with `transposed`); through `scratch` [b].
void ApplyBlock(const HadamardArgs& args, float* x, int64_t n, float* scratch) {
  const int64_t b = args.block_size;
  for (int64_t base = 0; base < n; base += b) {
    for (int64_t i = 0; i < b; ++i) {
      float sum = 0;
      for (int64_t j = 0; j < b; ++j) {
        sum += (args.transposed ? args.block[j * b + i] : args.block[i * b + j]) * x[base + j];
      }
      scratch[i] = sum;
    }
    std::copy(scratch, scratch + b, x + base);
  }
}

void HadamardRows(const HadamardArgs& args, int64_t begin, int64_t end) {
  const DF d;
  const int64_t n = args.x.cols, powers = n / args.block_size;
  const VF norm = hn::Set(d, 1.0f / std::sqrt(static_cast<float>(powers)));
  for (int64_t row = begin; row < end; ++row) {
    float* out = args.out.Row<float>(row);
    StoreRow(out, n, [&](int64_t i, size_t count) HWY_ATTR {
      const VF v = hn::Mul(LoadValues(args.x, row, i, count), norm);
      return args.transposed ? v : hn::Mul(v, LoadUpTo(args.signs + i, count));
    });
    float scratch[kMaxHadamardBlock];
    if (args.block != nullptr) ApplyBlock(args, out, n, scratch);
    Butterflies(out, powers, args.block_size);
    if (!args.transposed) continue;
    StoreRow(out, n, [&](int64_t i, size_t count) HWY_ATTR {
      return hn::Mul(LoadUpTo(out + i, count), LoadUpTo(args.signs + i, count));
    });
  }
}

// exp and a division make an element of silu_mul cost about four of the others.
constexpr int64_t kSiluCost = 4;

void RmsNorm(const RmsNormArgs& args, Stream stream) {
  ForRows(stream, args.x.rows, args.x.cols,
          [&](int64_t begin, int64_t end) { RmsNormRows(args, begin, end); });
}

void SiluMul(const SiluMulArgs& args, Stream stream) {
  ForRows(stream, args.gate.rows, kSiluCost * args.gate.cols,
          [&](int64_t begin, int64_t end) { SiluMulRows(args, begin, end); });
}

void Convert(const ConvertArgs& args, Stream stream) {
  ForRows(stream, args.x.rows, args.x.cols,
          [&](int64_t begin, int64_t end) { ConvertRows(args, begin, end); });
}

void Hadamard(const HadamardArgs& args, Stream stream) {
  const int64_t powers = args.x.cols / args.block_size;
  RK_CHECK(powers * args.block_size == args.x.cols && (powers & (powers - 1)) == 0);
  RK_CHECK(args.block_size <= kMaxHadamardBlock && args.out.dtype == DType::kF32);
  ForRows(stream, args.x.rows, (16 + args.block_size) * args.x.cols,
          [&](int64_t begin, int64_t end) { HadamardRows(args, begin, end); });
}

void Permute(const PermuteArgs& args, Stream stream) {
  RK_CHECK(args.out.dtype == DType::kF32 && args.out.data != args.x.data);
  ForRows(stream, args.x.rows, args.x.cols,
          [&](int64_t begin, int64_t end) { PermuteRows(args, begin, end); });
}

void Add(const AddArgs& args, Stream stream) {
  RK_CHECK(args.x.dtype == DType::kF32 && args.y.dtype == DType::kF32);
  ForRows(stream, args.x.rows, args.x.cols, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* x = args.x.Row<float>(row);
      float* y = args.y.Row<float>(row);
      StoreRow(y, args.x.cols, [&](int64_t i, size_t count) HWY_ATTR {
        VF sum = LoadUpTo(x + i, count);
        if (args.bias != nullptr) sum = hn::Add(sum, LoadUpTo(args.bias + i, count));
        return args.accumulate ? hn::Add(sum, LoadUpTo(y + i, count)) : sum;
      });
    }
  });
}

}  // namespace

void FillElementwise(OpTable* table) {
  table->rms_norm = RmsNorm;
  table->silu_mul = SiluMul;
  table->convert = Convert;
  table->hadamard = Hadamard;
  table->permute = Permute;
  table->add = Add;
}

}  // namespace HWY_NAMESPACE
}  // namespace rankine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rankine {

void FillElementwiseAvx2(OpTable* table) { N_AVX2::FillElementwise(table); }
void FillElementwiseAvx512(OpTable* table) { N_AVX3::FillElementwise(table); }

}  // namespace rankine
#endif
