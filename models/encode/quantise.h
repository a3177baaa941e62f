// From floats to block encodings, by least squares on the weights themselves (group_fit.h). Methods
// that know the activations come from tools/compress and write the same buffers.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/encoding.h"
#include "models/encode/group_fit.h"
#include "runtime/factor/tensor_source.h"

namespace rankine {

// Lays `out` out for `num_rows` rows of `cols` values and encodes `rows` [num_rows, cols].
//
// Without offsets the scale's sign is free, and the weight of greatest magnitude may take the code
// -2^(b-1), as GGML's Q4_0 has it; with two-level 6-bit scales, which are positive as those of
// Q4_K, it is not. Two levels: the groups of a super-block are fitted apart, their scales (offsets)
// are rounded to multiples of its greatest / 63 (/ -128 for k8), and the codes chosen again. Every
// number is rounded as it is stored before codes are chosen, so within the range of the codes the
// error is at most half of the stored scale.
//
// E8P: e8p_rows.h. Weights with few large ones among them lose much there, unless a transform has
// spread them.
//
// Errors name row and column or group: kInvalidArgument for a weight that is not finite, a scale or
// offset that its type cannot hold, or rows that are not whole codewords.
absl::Status EncodeRows(const float* rows, int64_t num_rows, int64_t cols, const Encoding& encoding,
                        BlockRowsBuffer* out);

struct EncodeError {
  double squared_error = 0;
  double squared_weights = 0;
  // ||W - W'||_F / ||W||_F.
  double relative() const {
    return squared_weights > 0 ? std::sqrt(squared_error / squared_weights) : 0.0;
  }
};

// The same row by row. One object for each thread, which may then encode different rows of the same
// buffer at once, but kE8P's one scale must stand in the buffer before.
class RowEncoder {
 public:
  explicit RowEncoder(const Encoding& encoding);
  // Row `row` of a buffer that ResizeBlockRows has laid out; messages call it `row_name`.
  absl::Status Encode(const float* weights, int64_t row, int64_t row_name, BlockRowsBuffer* out);
  // Of all rows since the last call: sums of squares of what encoding changed, and of the weights.
  EncodeError TakeError() { return std::exchange(error_, {}); }

 private:
  // Columns [begin, end) of the row: a super-block, or one group.
  absl::Status EncodeSpan(const float* weights, int64_t begin, int64_t end, int64_t row,
                          BlockRowsBuffer* out);
  absl::Status RoundToSuper(std::span<GroupFit> fits, int64_t super, int64_t first_group,
                            BlockRowsBuffer* out) const;

  const Encoding encoding_;
  std::vector<GroupFitter> fitters_;  // one for each group of a span
  std::vector<GroupFit> fits_;
  EncodeError error_;
};

// The sum of a row's squares, for E8PScale. kInvalidArgument: a weight that is not finite.
absl::StatusOr<double> SquaredWeights(const float* weights, int64_t cols, int64_t row_name);

// kInvalidArgument: rows of `cols` weights cannot be had in that encoding. Ok for float ones too.
absl::Status CheckCanEncode(const Encoding& encoding, int64_t cols);

}  // namespace rankine
