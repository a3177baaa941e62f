// What products and transforms cost beside the bytes that they read, by what the kernels do
// (kernels/cpu). A product: tiles of 16 outputs whose sums run over whole pairs or chunks of k, and
// for each row of a tile an epilogue that scales, adds and stores 16 outputs, in pieces where a run
// of them is shorter.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/api/packed_core.h"
#include "kernels/base/tensor_view.h"
#include "runtime/factor/device_profile.h"

namespace rankine {

struct ProductShape {
  int64_t n = 0, k = 0;
  int64_t rows = 1;  // of all tokens
  int64_t run = 0;   // kernels/api/products.h
  DType x = DType::kF32;
};

// 16 elements that are moved one by one take as long as so many stores of 16.
inline constexpr int64_t kPiecesOfColumns = 4;

inline double GatherSeconds(int64_t elements, const DeviceProfile& profile) {
  const auto vectors = static_cast<double>((elements + kBlockRows - 1) / kBlockRows);
  return vectors * kPiecesOfColumns * profile.store_seconds;
}

inline double ProductSeconds(const ProductShape& p, const DeviceProfile& profile) {
  // Columns that a block-encoded core's codes and a float core's pairs are padded to.
  const int64_t k = RoundUp(p.k, p.x == DType::kI8 ? 64 : 2), n = RoundUp(p.n, kBlockRows);
  // Single columns are stored over rows: 16 outputs are loaded one by one.
  int64_t pieces = p.run == 1 ? kPiecesOfColumns : 1;
  if (p.run > 1 && p.run % kBlockRows != 0)
    pieces = p.run > kBlockRows ? 2 : (kBlockRows + p.run - 1) / p.run;
  const auto vectors = static_cast<double>(p.rows * (n / kBlockRows) * pieces);
  return 2.0 * static_cast<double>(p.rows * n * k) / profile.flops_per_second(p.x, p.rows) +
         vectors * profile.store_seconds;
}

// A Hadamard transform of rows of n = 2^p b columns: 16 outputs of a product with H_q kron B, of at
// most 16 columns where b is not more, then a butterfly for each power that is left
// (kernels/cpu/hadamard.cc).
inline double HadamardSeconds(int64_t n, int64_t block, int64_t rows,
                              const DeviceProfile& profile) {
  int64_t columns = block, powers = n / block;
  for (; 2 * columns <= kBlockRows && powers > 1; powers /= 2) columns *= 2;
  // Without a block the strides within a vector are a permutation and a sum each.
  double operations = block == 1 ? 2 * 4 : 2 * static_cast<double>(RoundUp(columns, kBlockRows));
  for (; powers > 1; powers /= 2) operations += 1;
  return static_cast<double>(rows * n) * operations / profile.f32_flops_per_second;
}

}  // namespace rankine
