#include "kernels/cpu/prefetch.h"

namespace rankine {
namespace {

struct Distances {
  int64_t few_rows, many_rows, block_row;  // bytes
};

// Measured by products_bench at 4096 x 4096, built with one distance after the other. Zen 4, GB/s a
// thread of bf16 weights: 1 row 35 at 2 kB, 31 at 8 kB; 4 rows 20 and 32; 8 rows 15 and 27.
constexpr Distances kZen4{2048, 8192, 1536};
// Zen 5, one row of codes, the 7B shape by rankine bench: where memory gives 57 GB/s to two threads,
// 3 kB is best and 8 are 8% slower than 5 (int8); where it gives 80, 8 kB are 3 to 7% faster (int4).
// bf16 weights: no difference.
constexpr Distances kZen5{2048, 8192, 5120};
// Sapphire Rapids, one row, shares of the read bandwidth: bf16 weights 0.69 at 1 kB, 0.75 at 2,
// 0.87 at 4, 0.84 at 8; int4 codes 0.58 at 0.5 kB, 0.67 at 1.5, 0.74 at 3, 0.80 at 6 and beyond.
constexpr Distances kOthers{4096, 8192, 6144};

// g++ 12 knows the families of AMD's processors up to Zen 4, 19h.
bool IsUpToZen4() { return __builtin_cpu_is("amdfam17h") || __builtin_cpu_is("amdfam19h"); }

const Distances& Host() {
  static const Distances distances = !__builtin_cpu_is("amd") ? kOthers
                                     : IsUpToZen4()           ? kZen4
                                                              : kZen5;
  return distances;
}

}  // namespace

int64_t PrefetchBytes(int rows) { return rows <= 2 ? Host().few_rows : Host().many_rows; }

int64_t BlockPrefetchBytes() { return Host().block_row; }

}  // namespace rankine
