// Product tiles with f32 accumulators and FMA, for AVX2 and AVX-512. 16-bit weights are widened
// exactly in registers (streaming) or once per panel, so that f32, f16 and bf16 weights share one
// chain per output: fma(x[k], w[k], sum) in the order of k.
#include "kernels/cpu/hwy_baseline.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/products_simd.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include <algorithm>
#include <cstring>
#include <iterator>

#include "kernels/base/check.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/epilogue-inl.h"
#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/products_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace rankine {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using DU16 = hn::Repartition<uint16_t, DF>;

// 32 registers hold 12 x 2 accumulators of 16 lanes; 16 hold 6 x 1 of two times 8 lanes.
constexpr int kRows = HWY_TARGET == HWY_AVX2 ? 6 : 12;
constexpr int kPanelWidth = HWY_TARGET == HWY_AVX2 ? 1 : 2;

// One block at a time (products_stream.cc), though a chain of 16-bit weights takes two FMA, 8
// cycles, for 64 bytes, at most 29 GB/s a thread: two blocks side by side measured no faster.
constexpr int kStreamWidth = 1;
constexpr int64_t kStepBytes = 64;

// ---- one step of a block as f32: kColumns columns of kParts registers ----

struct F32Weights {
  static constexpr int kColumns = 1;
  HWY_INLINE static VF Load(const char* step, int, int part) {
    return hn::LoadU(DF(), reinterpret_cast<const float*>(step) + part * kLanes);
  }
};

struct BF16Weights {
  static constexpr int kColumns = 2;
  HWY_INLINE static VF Load(const char* step, int column, int part) {
    const DU32 du;
    const auto pairs = hn::LoadU(du, reinterpret_cast<const uint32_t*>(step) + part * kLanes);
    return hn::BitCast(
        DF(), column == 0 ? hn::ShiftLeft<16>(pairs) : hn::And(pairs, hn::Set(du, 0xffff0000u)));
  }
};

struct F16Weights {
  static constexpr int kColumns = 2;
  HWY_INLINE static VF Load(const char* step, int column, int part) {
    const DU16 du;
    const hn::Rebind<hwy::float16_t, DF> dh;
    const auto pairs = hn::LoadU(du, reinterpret_cast<const uint16_t*>(step) + part * 2 * kLanes);
    const auto halves =
        column == 0 ? hn::ConcatEven(du, pairs, pairs) : hn::ConcatOdd(du, pairs, pairs);
    return hn::PromoteTo(DF(), hn::BitCast(dh, hn::LowerHalf(halves)));
  }
};

// ---- tiles ----

template <class Weights, int kR, int kB>
struct Accumulators {
  VF sum[kR][kB][kParts];

  HWY_INLINE void Load(const TileArgs& args) {
#pragma GCC unroll 16
    for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 4
      for (int b = 0; b < kB; ++b) {
#pragma GCC unroll 2
        for (int p = 0; p < kParts; ++p) {
          sum[r][b][p] = args.first
                             ? hn::Zero(DF())
                             : hn::LoadU(DF(), args.c + r * args.c_stride + b * 16 + p * kLanes);
        }
      }
    }
  }

  HWY_INLINE void Store(const TileArgs& args) const {
#pragma GCC unroll 16
    for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 4
      for (int b = 0; b < kB; ++b) {
#pragma GCC unroll 2
        for (int p = 0; p < kParts; ++p) {
          hn::StoreU(sum[r][b][p], DF(), args.c + r * args.c_stride + b * 16 + p * kLanes);
        }
      }
    }
  }

  HWY_INLINE void Step(const char* w, int64_t w_stride, const char* x, int64_t x_stride) {
#pragma GCC unroll 2
    for (int column = 0; column < Weights::kColumns; ++column) {
      VF weight[kB][kParts];
#pragma GCC unroll 4
      for (int b = 0; b < kB; ++b) {
#pragma GCC unroll 2
        for (int p = 0; p < kParts; ++p) {
          weight[b][p] = Weights::Load(w + b * w_stride, column, p);
        }
      }
#pragma GCC unroll 16
      for (int r = 0; r < kR; ++r) {
        const VF value = hn::Set(DF(), reinterpret_cast<const float*>(x + r * x_stride)[column]);
#pragma GCC unroll 4
        for (int b = 0; b < kB; ++b) {
#pragma GCC unroll 2
          for (int p = 0; p < kParts; ++p) {
            sum[r][b][p] = hn::MulAdd(value, weight[b][p], sum[r][b][p]);
          }
        }
      }
    }
  }
};

// Rows of streaming tiles that prefetch pages in turn: with more a step takes longer.
constexpr int kMaxRowsOfPagesInTurn = 4;

template <int kB>
HWY_INLINE void PrefetchStep(const char* w, int64_t w_stride, bool pages_in_turn) {
#pragma GCC unroll 4
  for (int b = 0; b < kB; ++b) PrefetchLines<2>(w + b * w_stride, 1, pages_in_turn);
}

template <class Weights, int kR, int kB, bool kStream>
void Tile(const TileArgs& args) {
  Accumulators<Weights, kR, kB> acc;
  acc.Load(args);
  const char* w = args.w;
  const char* x = args.x;
  const int64_t w_stride = args.w_stride, x_stride = args.x_stride;
  constexpr int64_t kXStep = Weights::kColumns * static_cast<int64_t>(sizeof(float));
  int64_t step = 0;
  // A step of 16-bit weights is as slow with one row as others are with several.
  const bool pages_in_turn = kR <= kMaxRowsOfPagesInTurn && args.pages_in_turn;
  const int64_t ahead =
      pages_in_turn ? kPrefetchWindow : PrefetchBytes(Weights::kColumns == 2 ? kRows : kR);
  if constexpr (kStream) {
    for (; step < args.steps - ahead / kStepBytes; ++step) {
      PrefetchStep<kB>(w + ahead, w_stride, pages_in_turn);
      acc.Step(w, w_stride, x, x_stride);
      w += kStepBytes;
      x += kXStep;
    }
    const char* next = args.next;
    for (; step < args.steps; ++step) {
      PrefetchStep<kB>(next, w_stride, pages_in_turn);
      next += kStepBytes;
      acc.Step(w, w_stride, x, x_stride);
      w += kStepBytes;
      x += kXStep;
    }
  } else {
    for (; step < args.steps; ++step) {
      acc.Step(w, w_stride, x, x_stride);
      w += kStepBytes;
      x += kXStep;
    }
  }
  acc.Store(args);
}

template <class Weights, bool kStream, int kR = 1>
void FillTiles(TileSet* set) {
  constexpr int kB = kStream ? kStreamWidth : kPanelWidth;
  set->blocks[kR] = kB;
  set->wide[kR] = Tile<Weights, kR, kB, kStream>;
  set->single[kR] = Tile<Weights, kR, 1, kStream>;
  if constexpr (kR < kRows) FillTiles<Weights, kStream, kR + 1>(set);
}

// ---- conversions ----

template <class Weights>
void WidenWeights(const char* w, int64_t steps, char* out) {
  float* to = reinterpret_cast<float*>(out);
  const int64_t ahead = PrefetchBytes(kRows);
  for (int64_t step = 0; step < steps; ++step) {
    __builtin_prefetch(w + step * kStepBytes + ahead, 0, 2);
    for (int column = 0; column < Weights::kColumns; ++column) {
      for (int p = 0; p < kParts; ++p) {
        hn::StoreU(Weights::Load(w + step * kStepBytes, column, p), DF(), to + p * kLanes);
      }
      to += 16;
    }
  }
}

void LoadF32(const MatrixView& x, int64_t row, int64_t first, int64_t count, char* out) {
  std::memcpy(out, x.Row<float>(row) + first, count * sizeof(float));
}

void LoadBF16(const MatrixView& x, int64_t row, int64_t first, int64_t count, char* out) {
  const uint16_t* from = x.Row<uint16_t>(row) + first;
  float* to = reinterpret_cast<float*>(out);
  const hn::Rebind<uint16_t, DF> dh;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const auto wide = hn::PromoteTo(DU32(), hn::LoadU(dh, from + i));
    hn::StoreU(hn::BitCast(DF(), hn::ShiftLeft<16>(wide)), DF(), to + i);
  }
  for (; i < count; ++i) to[i] = ToFloat(BF16{from[i]});
}

// ---- tables ----

template <class Weights>
void FillForWeights(ProductKernels* kernels) {
  FillTiles<Weights, true>(&kernels->stream);
  FillTiles<F32Weights, false>(&kernels->panel);
  if (Weights::kColumns == 2) kernels->widen_weights = WidenWeights<Weights>;
}

}  // namespace

void FillKernels(DType weights, DType x, ProductKernels* kernels) {
  if (weights == DType::kF32) FillForWeights<F32Weights>(kernels);
  if (weights == DType::kF16) FillForWeights<F16Weights>(kernels);
  if (weights == DType::kBF16) FillForWeights<BF16Weights>(kernels);
  kernels->max_rows = kRows;
  kernels->load_x = x == DType::kBF16 ? LoadBF16 : LoadF32;
  kernels->x_in_compute_form = x == DType::kF32;
  kernels->x_column_bytes = sizeof(float);
  kernels->epilogue = Epilogue;
}

}  // namespace HWY_NAMESPACE
}  // namespace rankine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rankine {

namespace {

constexpr DType kWeightTypes[] = {DType::kF32, DType::kF16, DType::kBF16};
constexpr DType kXTypes[] = {DType::kF32, DType::kBF16};

// Objects are made here, outside the regions compiled for one target: a header's inline constructor
// must be compiled for the baseline alone.
struct KernelsByType {
  ProductKernels kernels[std::size(kWeightTypes)][std::size(kXTypes)];

  explicit KernelsByType(void (*fill)(DType, DType, ProductKernels*)) {
    for (size_t w = 0; w < std::size(kWeightTypes); ++w) {
      for (size_t x = 0; x < std::size(kXTypes); ++x) {
        fill(kWeightTypes[w], kXTypes[x], &kernels[w][x]);
      }
    }
  }

  const ProductKernels* Find(DType weights, DType x) const {
    for (size_t w = 0; w < std::size(kWeightTypes); ++w) {
      for (size_t i = 0; i < std::size(kXTypes); ++i) {
        if (kWeightTypes[w] == weights && kXTypes[i] == x) return &kernels[w][i];
      }
    }
    return nullptr;
  }
};

}  // namespace

const ProductKernels* FindKernelsAvx2(DType weights, DType x) {
  static const KernelsByType kernels(N_AVX2::FillKernels);
  return kernels.Find(weights, x);
}

const ProductKernels* FindKernelsAvx512(DType weights, DType x) {
  static const KernelsByType kernels(N_AVX3::FillKernels);
  return kernels.Find(weights, x);
}

void FillProductsAvx2(OpTable* table) {
  table->products = [](const ProductsArgs& args, Stream stream) {
    RunProducts(args, stream, {FindKernelsAvx2, FindBlockKernelsAvx2});
  };
}

void FillProductsAvx512Vnni(OpTable* table) {
  table->products = [](const ProductsArgs& args, Stream stream) {
    RunProducts(args, stream, {FindKernelsAvx512, FindBlockKernelsAvx512Vnni});
  };
}

void FillProductsAvx512(OpTable* table) {
  table->products = [](const ProductsArgs& args, Stream stream) {
    RunProducts(args, stream, {FindKernelsAvx512, FindBlockKernelsAvx512});
  };
}

}  // namespace rankine
#endif  // HWY_ONCE
