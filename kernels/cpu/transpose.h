// The transposition that all packing is made of. AVX2, the baseline of the binary.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace rankine {

// Transposes 8 rows of 8 dwords: out[i * 16 + r] = rows[r * stride + i].
inline void Transpose8x8(const char* rows, int64_t stride_bytes, uint32_t* out) {
  __m256 r[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    r[i] = _mm256_loadu_ps(reinterpret_cast<const float*>(rows + i * stride_bytes));
  }
  __m256 pair[8];  // pairs of rows interleaved, then quads
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    pair[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    pair[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  __m256 quad[8];
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const __m256* p = pair + 4 * half;
    quad[4 * half + 0] = _mm256_shuffle_ps(p[0], p[2], 0x44);
    quad[4 * half + 1] = _mm256_shuffle_ps(p[0], p[2], 0xee);
    quad[4 * half + 2] = _mm256_shuffle_ps(p[1], p[3], 0x44);
    quad[4 * half + 3] = _mm256_shuffle_ps(p[1], p[3], 0xee);
  }
  float* dst = reinterpret_cast<float*>(out);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(dst + i * 16, _mm256_permute2f128_ps(quad[i], quad[4 + i], 0x20));
    _mm256_storeu_ps(dst + (i + 4) * 16, _mm256_permute2f128_ps(quad[i], quad[4 + i], 0x31));
  }
}

}  // namespace rankine
