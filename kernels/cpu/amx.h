// Intel's tile registers (AMX): eight of up to 16 rows x 64 bytes, and products of two of them that
// add to a third. One instruction is 16 x 16 x 64 multiply-adds of 8 bits, or 16 x 16 x 32 of bf16.
//
// Inline assembly, because g++ 12's intrinsics do not tell the compiler what memory they read. The
// functions run only where HasAmx() holds, but need no target to compile.
#pragma once

#include <cstdint>

namespace rankine {

// Whether the processor and the system have tiles of int8 and bf16; the first call asks the system
// for the right to use them, which holds for all threads of the process.
bool HasAmx();

namespace amx {

inline constexpr int64_t kTileRows = 16;
inline constexpr int64_t kTileRowBytes = 64;
inline constexpr int64_t kTileBytes = kTileRows * kTileRowBytes;

// Shapes of all tiles; the layout is the instruction's.
struct alignas(64) Config {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void Set(int tile, int64_t tile_rows, int64_t bytes) {
    rows[tile] = static_cast<uint8_t>(tile_rows);
    row_bytes[tile] = static_cast<uint16_t>(bytes);
  }
};
static_assert(sizeof(Config) == 64);

// Gives all tiles their shapes, and zeros. Release() ends their use, after which a switch of
// threads need not save them.
inline void Configure(const Config& config) { __asm__ volatile("ldtilecfg %0" ::"m"(config)); }
inline void Release() { __asm__ volatile("tilerelease"); }

// Rows of a tile lie `stride` bytes apart in memory.
template <int kTile>
__attribute__((always_inline)) inline void Load(const void* data, int64_t stride) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(data), "r"(stride), "i"(kTile) : "memory");
}
// The same past L1, where what is read again and again stays: "T1", a hint for streams from L2.
template <int kTile>
__attribute__((always_inline)) inline void LoadPastL1(const void* data, int64_t stride) {
  __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" ::"r"(data), "r"(stride), "i"(kTile)
                   : "memory");
}
template <int kTile>
__attribute__((always_inline)) inline void Store(void* data, int64_t stride) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(data), "r"(stride), "i"(kTile)
                   : "memory");
}
template <int kTile>
__attribute__((always_inline)) inline void Zero() {
  __asm__ volatile("tilezero %%tmm%c0" ::"i"(kTile));
}

// Tile kC [rows][16] += A [rows][4 x quads] B [quads][16][4]: i8 x i8, and i8 x u8. Exact in i32.
template <int kC, int kA, int kB>
__attribute__((always_inline)) inline void AddProductI8I8() {
  __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
}
template <int kC, int kA, int kB>
__attribute__((always_inline)) inline void AddProductI8U8() {
  __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
}
// The same of bf16, A [rows][2 x pairs] and B [pairs][16][2], in f32: products of even and of odd
// columns are two chains that start at zero, and their sum is added to C. Rounds to nearest even
// and flushes denormals.
template <int kC, int kA, int kB>
__attribute__((always_inline)) inline void AddProductBF16() {
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
}

}  // namespace amx
}  // namespace rankine
