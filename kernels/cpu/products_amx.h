// Shared by products_amx.cc and products_amx_rows.cc.
#pragma once

#include <cstdint>

#include "kernels/cpu/products_kernels.h"

namespace rankine {

// Steps of a tile register of weights: a kilobyte.
inline constexpr int64_t kAmxTileSteps = 16, kAmxStepBytes = 64;

// Where the step lies that is `ahead` bytes ahead of `step`, there or in what follows.
inline const char* Ahead(const TileArgs& args, int64_t step, int64_t ahead) {
  const int64_t at = step * kAmxStepBytes + ahead, beyond = at - args.steps * kAmxStepBytes;
  return beyond < 0 ? args.w + at : args.next + beyond;
}

// A streaming tile for one block and one row of x, bf16 widened to f32.
void StreamRowAsAmx(const TileArgs& args);

}  // namespace rankine
