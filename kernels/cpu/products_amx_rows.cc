// One row of x, in f32, with a block of bf16 weights in vectors, to the bit what AMX's instruction
// does (amx.h). A tile register of weights is a kilobyte that is prefetched in one burst; in
// vectors each step prefetches its own line, and short blocks are read as fast as long ones: 3072 x
// 576 takes 112 us, and 128 with two rows, in tiles (products_bench).
#include <immintrin.h>

#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/products_amx.h"

// See block_tile_avx512_vnni.cc.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")

namespace rankine {
namespace {

// Denormals are zero, as inputs and as results, as long as this lives.
class FlushDenormals {
 public:
  FlushDenormals() : before_(_mm_getcsr()) {
    _mm_setcsr(before_ | kFlushToZero | kDenormalsAreZero);
  }
  ~FlushDenormals() { _mm_setcsr(before_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  static constexpr unsigned kFlushToZero = 0x8000, kDenormalsAreZero = 0x40;
  const unsigned before_;
};

// The sum of sixteen steps at most, prefetching as much from `next`: products of even and of odd
// columns are summed apart.
__attribute__((always_inline)) inline __m512 SumSteps(const char* w, const float* x, int64_t steps,
                                                      const char* next, bool pages_in_turn) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
#pragma GCC unroll 1
  for (int64_t step = 0; step < steps; ++step) {
    PrefetchLines<2>(next + step * kAmxStepBytes, 1, pages_in_turn);
    const __m512i pairs = _mm512_loadu_si512(w + step * kAmxStepBytes);
    const __m512 first = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    const __m512 second = _mm512_castsi512_ps(_mm512_and_si512(pairs, upper));
    even = _mm512_fmadd_ps(first, _mm512_set1_ps(x[2 * step]), even);
    odd = _mm512_fmadd_ps(second, _mm512_set1_ps(x[2 * step + 1]), odd);
  }
  return _mm512_add_ps(even, odd);
}

}  // namespace

void StreamRowAsAmx(const TileArgs& args) {
  const FlushDenormals flush;
  __m512 sum = args.first ? _mm512_setzero_ps() : _mm512_loadu_ps(args.c);
  const bool pages_in_turn = args.pages_in_turn;
  const int64_t ahead = pages_in_turn ? kPrefetchWindow : PrefetchBytes(1);
  for (int64_t step = 0; step < args.steps; step += kAmxTileSteps) {
    const char* w = args.w + step * kAmxStepBytes;
    const float* x = reinterpret_cast<const float*>(args.x) + 2 * step;
    const char* next = Ahead(args, step, ahead);
    const int64_t steps = args.steps - step;
    // A constant number where it can be.
    sum = _mm512_add_ps(sum, steps >= kAmxTileSteps
                                 ? SumSteps(w, x, kAmxTileSteps, next, pages_in_turn)
                                 : SumSteps(w, x, steps, next, pages_in_turn));
  }
  _mm512_storeu_ps(args.c, sum);
}

}  // namespace rankine

#pragma GCC pop_options
