// Headers of block-encoded chunks to f32. AVX2 is enough: a header is a tenth of what is read.
#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/block_kernels.h"

namespace rankine {
namespace {

__m256 Half8(const char* halves) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves)));
}

void Widen16(const char* halves, float* out) {
  _mm256_storeu_ps(out, Half8(halves));
  _mm256_storeu_ps(out + 8, Half8(halves + 16));
}

// out = supers x codes for 16 outputs.
void Multiply16(const char* supers, const char* codes, float* out) {
  for (int half = 0; half < 2; ++half) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + 8 * half));
    const __m256 integers = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
    _mm256_storeu_ps(out + 8 * half, _mm256_mul_ps(Half8(supers + 16 * half), integers));
  }
}

}  // namespace

void ReadHeader(const ChunkLayout& layout, const HeaderNumbers& numbers, const char* chunk,
                float* out) {
  const char* values = chunk + numbers.numbers_offset;
  if (numbers.is_f32) {
    std::memcpy(out, values, layout.groups * kBlockRows * sizeof(float));
    return;
  }
  for (int64_t group = 0; group < layout.groups; ++group, out += kBlockRows) {
    if (numbers.two_level) {
      const int64_t super = group * layout.group / kSuperBlockColumns;
      Multiply16(values + super * kBlockRows * 2, chunk + numbers.codes_offset + group * kBlockRows,
                 out);
    } else {
      Widen16(values + group * kBlockRows * 2, out);
    }
  }
}

}  // namespace rankine
