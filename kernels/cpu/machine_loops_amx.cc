#include "kernels/cpu/amx.h"
#include "kernels/cpu/machine_loops.h"
#include "kernels/cpu/machine_peak.h"

namespace rankine {
namespace {

// Four sums of two tiles of x and two of weights, as a panel has them.
void FillTiles() {
  amx::Config config;
  for (int tile = 0; tile < 8; ++tile) config.Set(tile, amx::kTileRows, amx::kTileRowBytes);
  amx::Configure(config);
  alignas(64) uint16_t values[amx::kTileBytes / sizeof(uint16_t)];
  FillOperands(values, amx::kTileBytes);
  amx::Load<4>(values, amx::kTileRowBytes);
  amx::Load<5>(values, amx::kTileRowBytes);
  amx::Load<6>(values, amx::kTileRowBytes);
  amx::Load<7>(values, amx::kTileRowBytes);
}

// A round has as many multiply-adds as eight of the other loops'.
constexpr int64_t kRoundsOfOthers = 8;

}  // namespace

double DotBF16Amx(int64_t iterations, float* sink) {
  FillTiles();
  const int64_t rounds = iterations / kRoundsOfOthers;
  for (int64_t i = 0; i < rounds; ++i) {
    amx::AddProductBF16<0, 4, 6>();
    amx::AddProductBF16<1, 4, 7>();
    amx::AddProductBF16<2, 5, 6>();
    amx::AddProductBF16<3, 5, 7>();
  }
  amx::Release();
  sink[2] = 0.0f;
  return 2.0 * 4 * 16 * 16 * 32 * static_cast<double>(rounds);
}

double DotInt8Amx(int64_t iterations, float* sink) {
  FillTiles();
  const int64_t rounds = iterations / kRoundsOfOthers;
  for (int64_t i = 0; i < rounds; ++i) {
    amx::AddProductI8I8<0, 4, 6>();
    amx::AddProductI8I8<1, 4, 7>();
    amx::AddProductI8I8<2, 5, 6>();
    amx::AddProductI8I8<3, 5, 7>();
  }
  amx::Release();
  sink[2] = 0.0f;
  return 2.0 * 4 * 16 * 16 * 64 * static_cast<double>(rounds);
}

}  // namespace rankine
