#include "tools/compress/pivot.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "Eigen/QR"
#include "absl/strings/str_cat.h"
#include "tools/compress/eigen_views.h"

namespace rankine {
namespace {

// A row whose part outside the span of those chosen before is below this share of the largest row
// is in their span: factors hold at most 24 bits.
constexpr double kDependent = 1e-9;
// Rows of W at a time, where all of it is compared.
constexpr int64_t kRowsAtATime = 256;

// Those of [0, m) that are not among `pivots`.
std::vector<int64_t> OtherRows(const std::vector<int64_t>& pivots, int64_t m) {
  std::vector<bool> is_pivot(static_cast<size_t>(m));
  for (const int64_t row : pivots) is_pivot[row] = true;
  std::vector<int64_t> rest;
  for (int64_t row = 0; row < m; ++row) {
    if (!is_pivot[row]) rest.push_back(row);
  }
  return rest;
}

RowMajor RowsOf(const Matrix64& a, const std::vector<int64_t>& rows) {
  RowMajor result(static_cast<int64_t>(rows.size()), a.cols);
  for (size_t i = 0; i < rows.size(); ++i)
    result.row(static_cast<int64_t>(i)) = View(a).row(rows[i]);
  return result;
}

Matrix64 ToMatrix(const RowMajor& values) {
  Matrix64 result(values.rows(), values.cols());
  Eigen::Map<RowMajor>(result.values.data(), result.rows, result.cols) = values;
  return result;
}

}  // namespace

std::vector<int32_t> PivotedMatrix::RowPositions() const {
  const auto rank = static_cast<int64_t>(pivots.size());
  const std::vector<int64_t> rest = OtherRows(pivots, rank + c.rows);
  std::vector<int32_t> positions(static_cast<size_t>(rank + c.rows));
  for (int64_t i = 0; i < rank; ++i) positions[pivots[i]] = static_cast<int32_t>(i);
  for (int64_t i = 0; i < c.rows; ++i) positions[rest[i]] = static_cast<int32_t>(rank + i);
  return positions;
}

absl::StatusOr<std::vector<int64_t>> ChoosePivots(const RankProduct& w) {
  for (const Matrix64* factor : {&w.a, &w.v}) {
    if (auto status = CheckFinite(*factor); !status.ok()) return status;
  }
  // R of V^T = Q R keeps the lengths of W's rows: |row of A V| = |row of A R^T|.
  const Eigen::HouseholderQR<ColMajor> lengths(View(w.v).transpose());
  const int64_t inner = std::min(w.v.rows, w.v.cols);
  const ColMajor r = lengths.matrixQR().topRows(inner).triangularView<Eigen::Upper>();
  Eigen::ColPivHouseholderQR<ColMajor> qr;
  qr.setThreshold(kDependent);
  qr.compute(r * View(w.a).transpose());
  const int64_t rank = qr.rank();
  if (rank == 0) return absl::FailedPreconditionError("it is zero");
  if (rank == w.a.rows) {
    return absl::FailedPreconditionError(
        absl::StrCat("all of its ", rank, " rows are independent"));
  }
  const auto& order = qr.colsPermutation().indices();
  return std::vector<int64_t>(order.data(), order.data() + rank);
}

absl::StatusOr<PivotedMatrix> PivotAt(const RankProduct& w, std::vector<int64_t> pivots,
                                      const RoundFn& round) {
  PivotedMatrix result;
  result.p = ToMatrix(RowsOf(w.a, pivots) * View(w.v));
  if (auto status = round(&result.p); !status.ok()) return status;
  // The least squares of C P = W: with P^T = Q R, C = W Q R^-T.
  const auto rank = static_cast<int64_t>(pivots.size());
  const Eigen::HouseholderQR<ColMajor> qr(View(result.p).transpose());
  const ColMajor q = qr.householderQ() * ColMajor::Identity(w.v.cols, rank);
  const RowMajor rest = RowsOf(w.a, OtherRows(pivots, w.a.rows));
  const ColMajor projected = (rest * (View(w.v) * q)).transpose();
  const ColMajor c =
      qr.matrixQR().topRows(rank).triangularView<Eigen::Upper>().solve(projected).transpose();
  result.c = ToMatrix(c);
  result.pivots = std::move(pivots);
  return result;
}

double PivotError(const RankProduct& w, const PivotedMatrix& pivoted) {
  const RowMajor exact_pivots = RowsOf(w.a, pivoted.pivots) * View(w.v);
  double error = (View(pivoted.p) - exact_pivots).squaredNorm();
  double norm = exact_pivots.squaredNorm();
  const RowMajor rest = RowsOf(w.a, OtherRows(pivoted.pivots, w.a.rows));
  for (int64_t row = 0; row < rest.rows(); row += kRowsAtATime) {
    const int64_t count = std::min(kRowsAtATime, rest.rows() - row);
    const RowMajor exact = rest.middleRows(row, count) * View(w.v);
    error += (View(pivoted.c).middleRows(row, count) * View(pivoted.p) - exact).squaredNorm();
    norm += exact.squaredNorm();
  }
  return norm > 0 ? std::sqrt(error / norm) : 0.0;
}

}  // namespace rankine
