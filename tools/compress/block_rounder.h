// Rounding a matrix to a stored encoding a few columns at a time, for methods that correct the
// columns still to come by the error of those that are done (ldlq.h).
#pragma once

#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/encoding.h"
#include "runtime/factor/tensor_source.h"
#include "tools/compress/linalg.h"

namespace rankine {

// Float encodings round each number; block ones first fit the scales (and offsets) of a span of
// columns by least squares, then take the nearest code under them.
class BlockRounder {
 public:
  // kInvalidArgument: rows of `cols` numbers cannot be had in that encoding.
  static absl::StatusOr<BlockRounder> Create(const Encoding& encoding, int64_t rows, int64_t cols);
  // That has stored `rows`, with their scales. Requires a block encoding.
  static BlockRounder Resume(const Encoding& encoding, BlockRowsBuffer rows);

  // Columns that are rounded together: 8 (kE8P) or 1.
  int64_t width() const;
  // Columns whose scales are fitted together: a group, a super-block of two-level scales, or all.
  int64_t span() const;

  // The scales of columns [begin, begin + wanted.cols), a span or the last part of one, for
  // `wanted` [rows, ..]. kE8P: one scale for all, kE8PScaleOverRms of the root mean square.
  // kInvalidArgument: numbers that are not finite, or too large.
  absl::Status FitSpan(int64_t begin, const Matrix64& wanted);

  // Rounds wanted [width] at columns [col, col + width) of `row`; `rounded` [width] gets what is
  // then stored. Requires the span's scales.
  void Round(int64_t row, int64_t col, const double* wanted, double* rounded);

  // The codes, of a block encoding.
  BlockRowsBuffer TakeCodes() { return std::move(rows_); }

 private:
  BlockRounder(const Encoding& encoding, int64_t rows, int64_t cols)
      : encoding_(encoding), num_rows_(rows), cols_(cols) {}

  void RoundE8P(int64_t row, int64_t col, const double* wanted, double* rounded);
  double RoundOne(int64_t row, int64_t col, double wanted);

  Encoding encoding_;
  int64_t num_rows_ = 0;
  int64_t cols_ = 0;
  BlockRowsBuffer rows_;  // empty for float encodings
};

// The numbers that stored rows stand for.
Matrix64 Decoded(const BlockRowsBuffer& rows);

}  // namespace rankine
