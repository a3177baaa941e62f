// Small tensors of a term on the host, in float64: how cores are folded at load, rounded once at
// the end.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/factor/contraction.h"

namespace rankine {

// Row-major over `legs`, slowest first. Without legs: one number.
struct HostTensor {
  std::vector<int> legs;
  std::vector<double> data;
};

// W [rows..., columns...] = the product of two tensors, summed over all other legs. Rows
// [begin, end) of W, into `out` [end - begin, columns].
struct TensorProduct {
  const TermLegs* legs = nullptr;
  HostTensor a, b;
  std::vector<int> row_legs, column_legs;

  void Rows(int64_t begin, int64_t end, double* out) const;
};

// Contracts all tensors but the last two, cheapest pairs first; `kept`: the legs of the result.
// One tensor alone is multiplied by a number.
TensorProduct FoldTensors(const TermLegs& legs, std::vector<HostTensor> tensors,
                          std::vector<int> row_legs, std::vector<int> column_legs);

}  // namespace rankine
