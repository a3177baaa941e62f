// The target pragma comes after all includes; see products_avx512_bf16.cc.
#include <immintrin.h>

#include "kernels/cpu/machine_loops.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")

namespace rankine {

double DotBF16Avx512(int64_t iterations, float* sink) {
  constexpr int kChains = 12;
  __m512 sum[kChains];
  for (__m512& chain : sum) chain = _mm512_setzero_ps();
  const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(sink[0]), _mm512_set1_ps(sink[1]));
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sum[c] = _mm512_dpbf16_ps(sum[c], a, a);
  }
  __m512 total = _mm512_setzero_ps();
  for (const __m512& chain : sum) total = _mm512_add_ps(total, chain);
  alignas(64) float lanes[16];
  _mm512_store_ps(lanes, total);
  sink[2] = lanes[0] + lanes[15];
  return 2.0 * kChains * 32 * static_cast<double>(iterations);
}

}  // namespace rankine

#pragma GCC pop_options
