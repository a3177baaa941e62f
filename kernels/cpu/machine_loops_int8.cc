// Peak loops of 8-bit dot products. The target pragma comes after all includes; see
// products_avx512_bf16.cc.
#include <immintrin.h>

#include "kernels/cpu/machine_loops.h"

namespace rankine {
namespace {

constexpr int kChains = 12;

}  // namespace

// vpmaddubsw, vpmaddwd and an addition: what eight outputs x four columns take without VNNI.
double DotInt8Avx2(int64_t iterations, float* sink) {
  __m256i sum[kChains];
  for (__m256i& chain : sum) chain = _mm256_setzero_si256();
  const __m256i a = _mm256_set1_epi8(static_cast<char>(sink[0]));
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) {
      const __m256i pairs = _mm256_maddubs_epi16(a, sum[c]);
      sum[c] = _mm256_add_epi32(sum[c], _mm256_madd_epi16(pairs, ones));
    }
  }
  __m256i total = _mm256_setzero_si256();
  for (const __m256i& chain : sum) total = _mm256_add_epi32(total, chain);
  sink[2] = static_cast<float>(_mm256_extract_epi32(total, 0));
  return 2.0 * kChains * 32 * static_cast<double>(iterations);
}

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")

double DotInt8Avx512(int64_t iterations, float* sink) {
  __m512i sum[kChains];
  for (__m512i& chain : sum) chain = _mm512_setzero_si512();
  const __m512i a = _mm512_set1_epi8(static_cast<char>(sink[0]));
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sum[c] = _mm512_dpbusd_epi32(sum[c], a, a);
  }
  __m512i total = _mm512_setzero_si512();
  for (const __m512i& chain : sum) total = _mm512_add_epi32(total, chain);
  alignas(64) int32_t lanes[16];
  _mm512_store_si512(lanes, total);
  sink[2] = static_cast<float>(lanes[0] + lanes[15]);
  return 2.0 * kChains * 64 * static_cast<double>(iterations);
}

#pragma GCC pop_options

}  // namespace rankine
