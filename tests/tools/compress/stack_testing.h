// Attention projections of different heads as a method sees them, for tests of stacks.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "tests/tools/compress/matrix_testing.h"
#include "tools/compress/methods/tucker.h"

namespace rankine::testing {

// q, k, v and o of grouped-query attention: 4 and 2 heads of 4, 12 features.
struct Projections {
  static constexpr const char* kNames[] = {"q", "k", "v", "o"};
  static constexpr int64_t kHeads[] = {4, 2, 2, 4}, kDim = 4, kFeatures = 12;

  explicit Projections(uint64_t seed = 1) {
    for (size_t i = 0; i < 4; ++i) {
      const int64_t size = kHeads[i] * kDim;
      weights[i] =
          i < 3 ? NormalMatrix(size, kFeatures, seed + i) : NormalMatrix(kFeatures, size, seed + i);
    }
  }
  static Projections Of(const nlohmann::json& j) {
    Projections p;
    for (size_t i = 0; i < 4; ++i) p.weights[i] = MatrixOfJson(j.at(kNames[i]));
    return p;
  }

  // [heads dim, features], o transposed.
  Matrix64 Stacked() const {
    Matrix64 stack(0, kFeatures);
    for (size_t i = 0; i < 4; ++i) {
      const Matrix64 rows = i < 3 ? weights[i] : Transposed(weights[i]);
      stack.rows += rows.rows;
      stack.values.insert(stack.values.end(), rows.values.begin(), rows.values.end());
    }
    return stack;
  }

  std::array<Matrix64, 4> weights;
};

}  // namespace rankine::testing
