#include "kernels/cpu/prefetch.h"

namespace rankine {
namespace {

struct Distances {
  int64_t few_rows, many_rows, block_row;  // bytes
  bool pages_in_turn;
};

// Measured by products_bench at 4096 x 4096, built with one distance after the other. Zen 4, GB/s a
// thread of bf16 weights: 1 row 35 at 2 kB, 31 at 8 kB; 4 rows 20 and 32; 8 rows 15 and 27.
constexpr Distances kZen4{2048, 8192, 1536, false};
// Zen 5, one row of codes, the 7B shape by rankine bench: where memory gives 57 GB/s to two
// threads, 3 kB is best and 8 are 8% slower than 5 (int8); where it gives 80, 8 kB are 3 to 7%
// faster (int4). bf16 weights: no difference.
constexpr Distances kZen5{2048, 8192, 5120, false};
// Sapphire Rapids and Emerald Rapids.
constexpr Distances kOthers{4096, 8192, 6144, true};

// Of the windows in which a run begins and ends lines are fetched in vain: SmolLM2 in Q4_1, whose
// runs are of 30 to 200 kB, is 4 to 6% slower with all of them in turn.
constexpr int64_t kMinPagesInTurnBytes = 4 * kPrefetchWindow;

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

bool PrefetchesPagesInTurn(int64_t bytes) {
  return bytes >= kMinPagesInTurnBytes && Host().pages_in_turn;
}

}  // namespace rankine
