#include "tools/compress/ldlq.h"

#include <algorithm>
#include <utility>

#include "Eigen/Cholesky"
#include "Eigen/Core"
#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/block_rounder.h"
#include "tools/compress/eigen_views.h"

namespace rankine {
namespace {

// Columns between two corrections by a matrix product; within them, column by column. As wide as
// an encoding's usual group, so that most groups are one.
constexpr int64_t kStepColumns = 64;

// Runs the columns of one matrix.
class Rounding {
 public:
  Rounding(const Matrix64& w, const RoundOptions& options, BlockRounder rounder)
      : w_(w), options_(options), rounder_(std::move(rounder)), errors_(w.rows, w.cols) {
    result_.values = Matrix64(w.rows, w.cols);
  }

  absl::StatusOr<RoundedMatrix> Run() {
    const int64_t span = rounder_.span();
    for (int64_t begin = 0; begin < w_.cols; begin += span) {
      RK_RETURN_IF_ERROR(RoundSpan(begin, std::min(span, w_.cols - begin)));
    }
    result_.codes = rounder_.TakeCodes();
    return std::move(result_);
  }

 private:
  // What is wanted of columns [begin, begin + count) after the error of those before.
  Matrix64 Wanted(int64_t begin, int64_t count) const {
    Matrix64 wanted(w_.rows, count);
    Eigen::Map<RowMajor> view(wanted.values.data(), w_.rows, count);
    view = View(w_).middleCols(begin, count);
    if (options_.ldl == nullptr || begin == 0) return wanted;
    view.noalias() +=
        View(errors_).leftCols(begin) * View(options_.ldl->feedback).block(0, begin, begin, count);
    return wanted;
  }

  absl::Status RoundSpan(int64_t begin, int64_t count) {
    Matrix64 wanted = Wanted(begin, count);
    RK_RETURN_IF_ERROR(rounder_.FitSpan(begin, wanted));
    for (int64_t first = begin; first < begin + count; first += kStepColumns) {
      const int64_t columns = std::min(kStepColumns, begin + count - first);
      if (first > begin || columns < count) wanted = Wanted(first, columns);
      for (int64_t row = 0; row < w_.rows; ++row) RoundRun(row, first, columns, wanted.Row(row));
    }
    return absl::OkStatus();
  }

  // Columns [first, first + columns) of a row; `wanted` [columns] lacks their own errors.
  void RoundRun(int64_t row, int64_t first, int64_t columns, double* wanted) {
    const int64_t width = rounder_.width();
    double* values = result_.values.Row(row) + first;
    double* errors = errors_.Row(row) + first;
    const double* exact = w_.Row(row) + first;
    for (int64_t k = 0; k < columns; k += width) {
      rounder_.Round(row, first + k, wanted + k, values + k);
      for (int64_t i = k; i < k + width; ++i) errors[i] = exact[i] - values[i];
      if (options_.ldl == nullptr) continue;
      for (int64_t i = k; i < k + width; ++i) {
        const double* feedback = options_.ldl->feedback.Row(first + i) + first;
        for (int64_t j = k + width; j < columns; ++j) wanted[j] += errors[i] * feedback[j];
      }
    }
  }

  const Matrix64& w_;
  const RoundOptions& options_;
  BlockRounder rounder_;
  Matrix64 errors_;  // W - Q of the columns that are done
  RoundedMatrix result_;
};

}  // namespace

absl::StatusOr<LdlFactors> BlockLdl(const Matrix64& h, int64_t width, double damping) {
  RK_CHECK(h.rows == h.cols && width >= 1 && damping >= 0);
  RK_RETURN_IF_ERROR(CheckFinite(h));
  const int64_t n = h.rows;
  // The Cholesky factor of H with rows and columns reversed is lower triangular; reversed again it
  // is upper: H = U U^T.
  Eigen::MatrixXd reversed = View(h).reverse();
  const double mean = reversed.trace() / static_cast<double>(std::max<int64_t>(n, 1));
  reversed.diagonal().array() += damping * mean;
  const Eigen::LLT<Eigen::MatrixXd> cholesky(reversed);
  if (!(mean > 0) || cholesky.info() != Eigen::Success) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the second moments of ", n, " inputs are not positive definite with ", damping,
        " of their mean diagonal added",
        mean > 0 ? ": raise --damping" : ": the calibration text never excites this matrix"));
  }
  const Eigen::MatrixXd lower = cholesky.matrixL();
  LdlFactors factors{.width = width, .feedback = Matrix64(n, n)};
  Eigen::Map<RowMajor> m = View(factors.feedback);
  m = lower.reverse();
  for (int64_t begin = 0; begin < n; begin += width) {
    const int64_t count = std::min(width, n - begin);
    const Eigen::MatrixXd diagonal = m.block(begin, begin, count, count);
    auto above = m.block(0, begin, begin, count);
    diagonal.triangularView<Eigen::Upper>().solveInPlace<Eigen::OnTheRight>(above);
    m.block(begin, begin, n - begin, count).setZero();
  }
  return factors;
}

int64_t LdlWidth(const Encoding& encoding) {
  return encoding.kind == EncodingKind::kE8P ? kE8PColumns : 1;
}

absl::StatusOr<RoundedMatrix> RoundMatrix(const Matrix64& w, const RoundOptions& options) {
  RK_CHECK(options.ldl == nullptr || (options.ldl->feedback.rows == w.cols &&
                                      options.ldl->width == LdlWidth(options.encoding)));
  RK_ASSIGN_OR_RETURN(BlockRounder rounder, BlockRounder::Create(options.encoding, w.rows, w.cols));
  return Rounding(w, options, std::move(rounder)).Run();
}

}  // namespace rankine
