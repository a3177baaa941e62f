#include "tools/compress/methods/q_lr_search.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "models/status_macros.h"

namespace rankine {
namespace {

class Search {
 public:
  Search(const Matrix64& w, const RoundingMoments& moments, const QLrOptions& options)
      : w_(w),
        moments_(moments),
        options_(options),
        fit_{.rank = options.rank,
             .encoding = options.factors,
             .damping = moments.damping,
             .ldl = &moments.For(options.factors)} {}

  absl::StatusOr<QLr> Run() {
    RK_RETURN_IF_ERROR(FromBase());
    RK_RETURN_IF_ERROR(FromLowRank());
    return std::move(best_);
  }

 private:
  void Note() {
    const double change = ErrorChange(now_.factors, weighted_, *moments_.h);
    now_.squared_error = std::max(0.0, residual_error_ + change);
    if (now_.squared_error < best_.squared_error) best_ = now_;
  }

  void SetResidual(Matrix64 residual) {
    residual_ = std::move(residual);
    weighted_ = MatrixProduct(residual_, *moments_.h);
    residual_error_ = std::inner_product(residual_.values.begin(), residual_.values.end(),
                                         weighted_.values.begin(), 0.0);
  }

  // Q for W - L R.
  absl::Status RoundBase(bool ldlq, double e8p_scale) {
    const Matrix64 target = product_.rows == 0 ? w_ : Difference(w_, product_);
    RK_ASSIGN_OR_RETURN(now_.q,
                        RoundMatrix(target, {.encoding = options_.base,
                                             .ldl = ldlq ? &moments_.For(options_.base) : nullptr,
                                             .e8p_scale = e8p_scale}));
    SetResidual(Difference(w_, now_.q.values));
    return absl::OkStatus();
  }

  // L R for W - Q.
  absl::Status FitFactors() {
    RK_ASSIGN_OR_RETURN(now_.factors, FitLowRank(residual_, weighted_, *moments_.h, fit_));
    product_ = ProductOf(now_.factors);
    return absl::OkStatus();
  }

  absl::Status Alternate() {
    for (int64_t k = 0; k < options_.iterations; ++k) {
      RK_RETURN_IF_ERROR(RoundBase(options_.ldlq, 1));
      Note();
      RK_RETURN_IF_ERROR(FitFactors());
      Note();
    }
    return absl::OkStatus();
  }

  absl::Status FromBase() {
    RK_RETURN_IF_ERROR(RoundBase(false, 1));
    RK_RETURN_IF_ERROR(FitFactors());
    Note();
    return Alternate();
  }

  absl::Status FromLowRank() {
    SetResidual(w_);
    RK_RETURN_IF_ERROR(FitFactors());
    return Alternate();
  }

  const Matrix64& w_;
  const RoundingMoments& moments_;
  const QLrOptions& options_;
  const LowRankOptions fit_;
  QLr now_;
  QLr best_{.squared_error = std::numeric_limits<double>::infinity()};
  Matrix64 residual_;  // W - Q
  Matrix64 weighted_;  // (W - Q) H
  double residual_error_ = 0;
  Matrix64 product_;  // L R
};

}  // namespace

absl::StatusOr<RoundingMoments> MakeRoundingMoments(const Matrix64& h, double damping,
                                                    bool with_codewords) {
  RoundingMoments moments{.h = &h, .damping = damping};
  RK_ASSIGN_OR_RETURN(moments.columns, BlockLdl(h, 1, damping));
  if (with_codewords) {
    RK_ASSIGN_OR_RETURN(moments.codewords, BlockLdl(h, kE8PColumns, damping));
  }
  return moments;
}

absl::StatusOr<QLr> SearchQLr(const Matrix64& w, const RoundingMoments& moments,
                              const QLrOptions& options) {
  return Search(w, moments, options).Run();
}

}  // namespace rankine
