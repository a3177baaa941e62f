// Product tiles for bf16 weights and bf16 activations with the AVX512-BF16 dot product: one
// register of weights holds 16 outputs x 2 columns, one dword of x is broadcast to all lanes. The
// chain of an output adds a pair of products per step, in the order of k; the instruction rounds to
// nearest even and flushes denormals.
//
// Highway 1.0.3 has no wrapper for it. The target pragma comes after all includes: inline functions
// of headers must not be compiled for an instruction set that other files do not have.
#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/products_kernels.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")

namespace rankine {
namespace {

constexpr int kRows = 12;
constexpr int kPanelWidth = 2;
// One block at a time: a chain's latency of 6 cycles for 64 bytes is faster than memory; see
// products_stream.cc.
constexpr int kStreamWidth = 1;
constexpr int64_t kStepBytes = 64;

template <int kR, int kB>
struct Accumulators {
  __m512 sum[kR][kB];

  __attribute__((always_inline)) void Load(const TileArgs& args) {
#pragma GCC unroll 16
    for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 4
      for (int b = 0; b < kB; ++b) {
        sum[r][b] =
            args.first ? _mm512_setzero_ps() : _mm512_loadu_ps(args.c + r * args.c_stride + b * 16);
      }
    }
  }

  __attribute__((always_inline)) void Store(const TileArgs& args) const {
#pragma GCC unroll 16
    for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 4
      for (int b = 0; b < kB; ++b) {
        _mm512_storeu_ps(args.c + r * args.c_stride + b * 16, sum[r][b]);
      }
    }
  }

  __attribute__((always_inline)) void Step(const char* w, int64_t w_stride, const char* x,
                                           int64_t x_stride) {
    __m512bh weight[kB];
#pragma GCC unroll 4
    for (int b = 0; b < kB; ++b) {
      weight[b] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(w + b * w_stride));
    }
#pragma GCC unroll 16
    for (int r = 0; r < kR; ++r) {
      int pair;
      std::memcpy(&pair, x + r * x_stride, 4);
      const __m512bh value = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
#pragma GCC unroll 4
      for (int b = 0; b < kB; ++b) sum[r][b] = _mm512_dpbf16_ps(sum[r][b], weight[b], value);
    }
  }
};

template <int kB>
__attribute__((always_inline)) inline void PrefetchStep(const char* w, int64_t w_stride) {
#pragma GCC unroll 4
  for (int b = 0; b < kB; ++b) __builtin_prefetch(w + b * w_stride, 0, 2);
}

template <int kR, int kB, bool kStream>
void Tile(const TileArgs& args) {
  Accumulators<kR, kB> acc;
  acc.Load(args);
  const char* w = args.w;
  const char* x = args.x;
  const int64_t w_stride = args.w_stride, x_stride = args.x_stride;
  int64_t step = 0;
  if constexpr (kStream) {
    const int64_t ahead = PrefetchBytes(kR);
    for (; step < args.steps - ahead / kStepBytes; ++step, w += kStepBytes, x += 4) {
      PrefetchStep<kB>(w + ahead, w_stride);
      acc.Step(w, w_stride, x, x_stride);
    }
    const char* next = args.next;
    for (; step < args.steps; ++step, w += kStepBytes, x += 4, next += kStepBytes) {
      PrefetchStep<kB>(next, w_stride);
      acc.Step(w, w_stride, x, x_stride);
    }
  } else {
    for (; step < args.steps; ++step, w += kStepBytes, x += 4) {
      acc.Step(w, w_stride, x, x_stride);
    }
  }
  acc.Store(args);
}

template <bool kStream, int kR = 1>
void FillTiles(TileSet* set) {
  constexpr int kB = kStream ? kStreamWidth : kPanelWidth;
  set->blocks[kR] = kB;
  set->wide[kR] = Tile<kR, kB, kStream>;
  set->single[kR] = Tile<kR, 1, kStream>;
  if constexpr (kR < kRows) FillTiles<kStream, kR + 1>(set);
}

void FillTileSets(ProductKernels* kernels) {
  FillTiles<true>(&kernels->stream);
  FillTiles<false>(&kernels->panel);
  kernels->max_rows = kRows;
}

}  // namespace
}  // namespace rankine

#pragma GCC pop_options

namespace rankine {
namespace {

void LoadX(const MatrixView& x, int64_t row, int64_t first, int64_t count, char* out) {
  std::memcpy(out, x.Row<uint16_t>(row) + first, count * sizeof(uint16_t));
}

ProductKernels MakeKernels() {
  ProductKernels kernels;
  FillTileSets(&kernels);
  kernels.load_x = LoadX;
  kernels.x_in_compute_form = true;
  kernels.x_column_bytes = sizeof(uint16_t);
  kernels.epilogue = FindKernelsAvx512(DType::kBF16, DType::kBF16)->epilogue;
  return kernels;
}

}  // namespace

const ProductKernels* FindKernelsAvx512Bf16(DType weights, DType x) {
  static const ProductKernels kernels = MakeKernels();
  if (weights == DType::kBF16 && x == DType::kBF16) return &kernels;
  return FindKernelsAvx512(weights, x);
}

void FillProductsAvx512Bf16(OpTable* table) {
  table->products = [](const ProductsArgs& args, Stream stream) {
    RunProducts(args, stream, {FindKernelsAvx512Bf16, FindBlockKernelsAvx512Vnni});
  };
}

}  // namespace rankine
