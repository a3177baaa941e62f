#include "tools/compress/methods/q_lr_search.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "models/status_macros.h"
#include "tools/compress/code_descent.h"

namespace rankine {
namespace {

// Share of H's mean diagonal that is always added: for features that the text never shows, and
// where R leaves nothing unexplained.
constexpr double kLeastDamping = 1e-6;

double MeanDiagonal(const Matrix64& h) {
  double trace = 0;
  for (int64_t i = 0; i < h.rows; ++i) trace += h(i, i);
  return trace / static_cast<double>(h.rows);
}

void AddToDiagonal(double value, Matrix64* h) {
  for (int64_t i = 0; i < h->rows; ++i) (*h)(i, i) += value;
}

// H - H R^T (R H R^T)^+ R H.
absl::StatusOr<Matrix64> Unexplained(const Matrix64& h, const Matrix64& right) {
  const Matrix64 hr = MatrixProduct(h, Transposed(right));
  RK_ASSIGN_OR_RETURN(const Matrix64 regression, SolveSymmetric(MatrixProduct(right, hr), hr));
  return Difference(h, MatrixProduct(regression, Transposed(hr)));
}

class Search {
 public:
  Search(const Matrix64& w, const Matrix64& h, const QLrOptions& options)
      : w_(w),
        h_(h),
        options_(options),
        least_damping_(kLeastDamping * MeanDiagonal(h)),
        fit_{.rank = options.rank, .encoding = options.factors, .ldl = options.factors_ldl} {}

  absl::StatusOr<QLr> Run() {
    RK_RETURN_IF_ERROR(FromBase());
    RK_RETURN_IF_ERROR(FromLowRank());
    if (options_.ldlq && options_.passes > 0) RK_RETURN_IF_ERROR(Polish());
    return std::move(best_);
  }

 private:
  void Note() {
    const double change = ErrorChange(now_.factors, weighted_, h_);
    now_.squared_error = std::max(0.0, residual_error_ + change);
    if (now_.squared_error < best_.squared_error) best_ = now_;
  }

  void SetResidual(Matrix64 residual) {
    residual_ = std::move(residual);
    weighted_ = MatrixProduct(residual_, h_);
    residual_error_ = std::inner_product(residual_.values.begin(), residual_.values.end(),
                                         weighted_.values.begin(), 0.0);
  }

  absl::Status RoundToNearest(const Matrix64& target) {
    RK_ASSIGN_OR_RETURN(now_.q, RoundMatrix(target, {.encoding = options_.base}));
    SetResidual(Difference(w_, now_.q.values));
    return absl::OkStatus();
  }

  // Q for W - L R, where L is still to be fitted to R.
  absl::Status RoundByMoments(const Matrix64& target) {
    RK_ASSIGN_OR_RETURN(Matrix64 g, Unexplained(h_, now_.factors.right.values));
    AddToDiagonal(options_.damping * MeanDiagonal(g) + least_damping_, &g);
    RK_ASSIGN_OR_RETURN(const LdlFactors ldl, BlockLdl(g, LdlWidth(options_.base), 0));
    RK_ASSIGN_OR_RETURN(now_.q, RoundMatrix(target, {.encoding = options_.base, .ldl = &ldl}));
    DescendCodes(target, g, options_.passes, options_.base, &now_.q);
    SetResidual(Difference(w_, now_.q.values));
    return absl::OkStatus();
  }

  // L R for W - Q.
  absl::Status FitFactors() {
    RK_ASSIGN_OR_RETURN(now_.factors, FitLowRank(residual_, weighted_, h_, fit_));
    Note();
    return absl::OkStatus();
  }

  absl::Status Alternate() {
    for (int64_t k = 0; k < options_.iterations; ++k) {
      const Matrix64 target = Difference(w_, ProductOf(now_.factors));
      RK_RETURN_IF_ERROR(options_.ldlq ? RoundByMoments(target) : RoundToNearest(target));
      Note();
      RK_RETURN_IF_ERROR(FitFactors());
    }
    return absl::OkStatus();
  }

  absl::Status FromBase() {
    RK_RETURN_IF_ERROR(RoundToNearest(w_));
    RK_RETURN_IF_ERROR(FitFactors());
    return Alternate();
  }

  absl::Status FromLowRank() {
    SetResidual(w_);
    RK_ASSIGN_OR_RETURN(now_.factors, FitLowRank(residual_, weighted_, h_, fit_));
    return Alternate();
  }

  absl::Status Polish() {
    Matrix64 damped = h_;
    AddToDiagonal(least_damping_, &damped);
    now_ = best_;
    DescendCodes(Difference(w_, ProductOf(now_.factors)), damped, options_.passes, options_.base,
                 &now_.q);
    SetResidual(Difference(w_, now_.q.values));
    Note();
    return FitFactors();
  }

  const Matrix64& w_;
  const Matrix64& h_;
  const QLrOptions& options_;
  const double least_damping_;
  const LowRankOptions fit_;
  QLr now_;
  QLr best_{.squared_error = std::numeric_limits<double>::infinity()};
  Matrix64 residual_;  // W - Q
  Matrix64 weighted_;  // (W - Q) H
  double residual_error_ = 0;
};

}  // namespace

absl::StatusOr<QLr> SearchQLr(const Matrix64& w, const Matrix64& h, const QLrOptions& options) {
  return Search(w, h, options).Run();
}

}  // namespace rankine
