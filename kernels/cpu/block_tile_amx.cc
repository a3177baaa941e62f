// Tiles of unpacked codes and quantised activations for many rows, with AMX: the codes of a step
// are a tile register of weights, and sixteen rows meet all of their columns of a group in one
// instruction. Integer sums are exact and what follows them is what block_tile_avx512_vnni-inl.h
// does, so both give the same bits.
//
// Tile registers and vectors exchange values through memory, and mixed instructions of both run one
// after the other rather than at once. So some steps are multiplied, their sums left in L1, and
// then added to the chains, which stay in registers meanwhile.
#include <immintrin.h>

#include <algorithm>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/block_kernels.h"

// See block_tile_avx512_vnni.cc.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")

namespace rankine {
namespace {

constexpr int64_t kRows = amx::kTileRows;
static_assert(kStepColumns * kBlockRows == amx::kTileBytes && kBlockRows == amx::kTileRows);

// Integer sums of a few steps and up to two row tiles: 16 kB.
template <int kGroup>
struct Sums {
  static constexpr int kGroups = 64 / kGroup;
  static constexpr int kSteps = 8 / kGroups;

  alignas(64) int32_t of[kSteps][2][kGroups][kRows][kBlockRows];
};

// Tile registers: sums are 0 to 3, x of the row tiles 4 and 5, codes of even and odd groups 6
// and 7.
template <int kGroup>
void Configure() {
  amx::Config config;
  for (int tile = 0; tile < 4; ++tile) config.Set(tile, kRows, amx::kTileRowBytes);
  for (int tile = 4; tile < 6; ++tile) config.Set(tile, kRows, kGroup);
  for (int tile = 6; tile < 8; ++tile) config.Set(tile, kGroup / 4, amx::kTileRowBytes);
  amx::Configure(config);
}

// Group kG of one step with row tile kTile.
template <int kGroup, bool kOffsets, int kG, int kTile>
__attribute__((always_inline)) inline void MultiplyTile(const RecordTile* x, void* sums) {
  constexpr int kSum = 2 * (kG % 2) + kTile, kX = 4 + kTile, kCodes = 6 + kG % 2;
  amx::Load<kX>(x->codes[0] + kG * kGroup, kStepColumns);
  amx::Zero<kSum>();
  if constexpr (kOffsets) {
    amx::AddProductI8U8<kSum, kX, kCodes>();
  } else {
    amx::AddProductI8I8<kSum, kX, kCodes>();
  }
  amx::Store<kSum>(sums, amx::kTileRowBytes);
}

// All groups of one step from kG on with kTiles row tiles, `tile_stride` records apart.
template <int kGroup, bool kOffsets, int kTiles, int kG = 0>
__attribute__((always_inline)) inline void MultiplyStep(const uint8_t* codes, const RecordTile* x,
                                                        int64_t tile_stride, int64_t step,
                                                        Sums<kGroup>* sums) {
  amx::Load<6 + kG % 2>(codes + kG * kGroup * kBlockRows, amx::kTileRowBytes);
  MultiplyTile<kGroup, kOffsets, kG, 0>(x, sums->of[step][0][kG]);
  if constexpr (kTiles > 1) {
    MultiplyTile<kGroup, kOffsets, kG, 1>(x + tile_stride, sums->of[step][1][kG]);
  }
  if constexpr ((kG + 1) * kGroup < 64) {
    MultiplyStep<kGroup, kOffsets, kTiles, kG + 1>(codes, x, tile_stride, step, sums);
  }
}

// Scales and offsets of a step's groups.
template <int kGroup, bool kOffsets>
struct StepNumbers {
  static constexpr int kGroups = 64 / kGroup;

  __attribute__((always_inline)) StepNumbers(const UnpackedTileArgs& args, int64_t step) {
    const int64_t first = kGroup == 64 ? step >> args.group_shift : step * kGroups;
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
      scales[g] = _mm512_loadu_ps(args.scales + (first + g) * kBlockRows);
      if constexpr (kOffsets) {
        offsets[g] = _mm512_loadu_ps(args.offsets + (first + g) * kBlockRows);
      }
    }
  }

  __m512 scales[kGroups], offsets[kGroups];
};

// A row's chain after a step whose integer sums are known.
template <int kGroup, bool kOffsets>
__attribute__((always_inline)) inline __m512 AddSums(
    const RecordTile& x, const StepNumbers<kGroup, kOffsets>& numbers,
    const int32_t (&sums)[64 / kGroup][kRows][kBlockRows], int row, __m512 chain) {
  __m512 sum;
#pragma GCC unroll 4
  for (int g = 0; g < 64 / kGroup; ++g) {
    const __m512 exact = _mm512_cvtepi32_ps(_mm512_load_si512(sums[g][row]));
    sum = g == 0 ? _mm512_mul_ps(exact, numbers.scales[0])
                 : _mm512_fmadd_ps(exact, numbers.scales[g], sum);
    if constexpr (kOffsets) {
      sum = _mm512_fnmadd_ps(_mm512_set1_ps(x.minus_sums[g][row]), numbers.offsets[g], sum);
    }
  }
  return _mm512_fmadd_ps(sum, _mm512_set1_ps(x.scales[row]), chain);
}

// Adds the sums of steps [begin, begin + count) of row tile `tile` to its chains.
template <int kGroup, bool kOffsets>
__attribute__((always_inline)) inline void AddToChains(const UnpackedTileArgs& args, int64_t begin,
                                                       int64_t count, int64_t tile,
                                                       const Sums<kGroup>& sums) {
  float* c = args.c + tile * kRows * kBlockRows;
  const RecordTile* x = args.x + tile * args.steps + begin;
  __m512 chains[kRows];
  if (args.first && begin == 0) {
#pragma GCC unroll 16
    for (__m512& chain : chains) chain = _mm512_setzero_ps();
  } else {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) chains[r] = _mm512_loadu_ps(c + r * kBlockRows);
  }
  for (int64_t i = 0; i < count; ++i) {
    const StepNumbers<kGroup, kOffsets> numbers(args, begin + i);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      chains[r] = AddSums<kGroup, kOffsets>(x[i], numbers, sums.of[i][tile], r, chains[r]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) _mm512_storeu_ps(c + r * kBlockRows, chains[r]);
}

template <int kGroup, bool kOffsets, int kTiles>
__attribute__((always_inline)) inline void RunTiles(const UnpackedTileArgs& args) {
  Sums<kGroup> sums;
  for (int64_t begin = 0; begin < args.steps; begin += Sums<kGroup>::kSteps) {
    const int64_t count = std::min<int64_t>(Sums<kGroup>::kSteps, args.steps - begin);
    for (int64_t i = 0; i < count; ++i) {
      MultiplyStep<kGroup, kOffsets, kTiles>(args.codes + (begin + i) * amx::kTileBytes,
                                             args.x + begin + i, args.steps, i, &sums);
    }
    for (int64_t tile = 0; tile < kTiles; ++tile) {
      AddToChains<kGroup, kOffsets>(args, begin, count, tile, sums);
    }
  }
}

template <int kGroup, bool kOffsets>
void Tile(const UnpackedTileArgs& args) {
  for (int64_t i = 0; i < args.next_lines; ++i) __builtin_prefetch(args.next + i * 64, 0, 2);
  if (args.row_tiles > 1) {
    RunTiles<kGroup, kOffsets, 2>(args);
  } else {
    RunTiles<kGroup, kOffsets, 1>(args);
  }
}

template <int kGroup>
void FillTiles(bool offsets, BlockKernels* kernels) {
  kernels->unpacked_tile = offsets ? Tile<kGroup, true> : Tile<kGroup, false>;
  kernels->begin_tiles = Configure<kGroup>;
  kernels->end_tiles = amx::Release;
}

}  // namespace

#pragma GCC pop_options

void FindUnpackedTilesAmx(int64_t group, bool offsets, BlockKernels* kernels) {
  if (group == 16) return FillTiles<16>(offsets, kernels);
  if (group == 32) return FillTiles<32>(offsets, kernels);
  FillTiles<64>(offsets, kernels);
}

}  // namespace rankine
