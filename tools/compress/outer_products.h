// Sums of outer products a^T b of activations, the work of calibration: products in f32 by the
// engine's own kernels (kernels/api/products.h), each over at most kMaxTokens tokens, added up in
// f64, so that the rounding of a sum does not grow with the length of the text.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/base/stream.h"
#include "kernels/base/tensor_view.h"
#include "kernels/op_table.h"
#include "tools/compress/linalg.h"

namespace rankine {

// Owns the scratch, 4 kB a feature (twice that with two operands). One thread at a time calls it.
class OuterProducts {
 public:
  static constexpr int64_t kMaxTokens = 512;

  OuterProducts(int64_t features, const OpTable& ops, Stream stream);

  // sum += x^T x, in the blocks on and below the diagonal; above it the sum means nothing. x
  // [t <= kMaxTokens, features], f32 or bf16; sum [features, features]. The result does not depend
  // on the number of threads.
  void AddSquare(const MatrixView& x, Matrix64* sum);
  // sum += a^T b, whole; both as x.
  void AddCross(const MatrixView& a, const MatrixView& b, Matrix64* sum);

  // Of the last x (or b): features [16 block, 16 block + 16) of its tokens [t, 16], zeros beyond
  // the last feature.
  const float* Block(int64_t block) const { return packed_.data() + block * kMaxTokens * 16; }
  int64_t num_blocks() const { return static_cast<int64_t>(packed_.size()) / (kMaxTokens * 16); }

 private:
  // Values of 16 tokens, and the same with features first: a thread's scratch.
  struct TokenGroup {
    std::vector<float> rows, lanes;
  };

  void Load(const MatrixView& x, bool as_rows, bool as_weights);
  void LoadGroup(const MatrixView& x, int64_t first, bool as_rows, bool as_weights,
                 TokenGroup* scratch);
  void AddTile(int64_t row, int64_t column, int64_t tokens, std::vector<float>* scratch,
               Matrix64* sum) const;

  int64_t features_;
  const OpTable& ops_;
  Stream stream_;
  std::vector<float> rows_;    // a^T [features, kRowStride]
  std::vector<float> packed_;  // b^T as weights: [features / 16][kMaxTokens][16]
};

}  // namespace rankine
