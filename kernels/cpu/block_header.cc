// Headers of block-encoded chunks to f32. AVX2 is enough: a header is a tenth of what is read.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/block_kernels.h"

namespace rankine {
namespace {

__m256 Half8(const char* halves) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves)));
}

void WidenHalves(const char* halves, int64_t groups, float* out) {
  for (int64_t i = 0; i < groups * kBlockRows; i += 8) {
    _mm256_storeu_ps(out + i, Half8(halves + 2 * i));
  }
}

__m256 Integers8(const char* codes) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}

// out = supers x codes for the groups of one super-block.
void MultiplyGroups(const char* supers, const char* codes, int64_t groups, float* out) {
  static_assert(kBlockRows == 16);
  const __m256 low = Half8(supers), high = Half8(supers + 16);
  for (int64_t i = 0; i < groups * kBlockRows; i += kBlockRows) {
    _mm256_storeu_ps(out + i, _mm256_mul_ps(low, Integers8(codes + i)));
    _mm256_storeu_ps(out + i + 8, _mm256_mul_ps(high, Integers8(codes + i + 8)));
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
  if (!numbers.two_level) return WidenHalves(values, layout.groups, out);
  const int64_t groups_of_super = kSuperBlockColumns / layout.group;
  for (int64_t group = 0; group < layout.groups; group += groups_of_super) {
    MultiplyGroups(values + group / groups_of_super * kBlockRows * 2,
                   chunk + numbers.codes_offset + group * kBlockRows,
                   std::min(groups_of_super, layout.groups - group), out + group * kBlockRows);
  }
}

}  // namespace rankine
