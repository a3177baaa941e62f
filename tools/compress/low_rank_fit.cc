#include "tools/compress/low_rank_fit.h"

#include <limits>
#include <numeric>
#include <utility>

#include "models/status_macros.h"

namespace rankine {
namespace {

// trace(A^T B)
double Dot(const Matrix64& a, const Matrix64& b) {
  return std::inner_product(a.values.begin(), a.values.end(), b.values.begin(), 0.0);
}

class LowRankFitter {
 public:
  LowRankFitter(const Matrix64& e, const Matrix64& h, const LowRankOptions& options)
      : e_(e), h_(h), options_(options), target_(MatrixProduct(e, h)) {}

  absl::StatusOr<LowRank> Run() {
    RK_ASSIGN_OR_RETURN(SvdFactors svd, WeightedSvd(e_, h_, options_.rank));
    // L is orthonormal: its groups hold numbers of one size, and the rows of R have their own
    // scales.
    for (int64_t k = 0; k < options_.rank; ++k) {
      for (int64_t j = 0; j < e_.cols; ++j) svd.v(k, j) *= svd.s[k];
    }
    RK_RETURN_IF_ERROR(RoundLeft(svd.u, svd.v));
    RK_RETURN_IF_ERROR(FitAndRoundRight());
    for (int64_t round = 0; round < options_.rounds; ++round) {
      RK_ASSIGN_OR_RETURN(const Matrix64 left, FitLeft(target_, now_.right.values, h_));
      RK_RETURN_IF_ERROR(RoundLeft(left, now_.right.values));
      NoteBest();
      RK_RETURN_IF_ERROR(FitAndRoundRight());
    }
    return std::move(best_);
  }

 private:
  // ||(E - L R) H^1/2||_F^2 less what E alone has, by products of rank r, which cost less than
  // the m x n x n one of the norm.
  double Error() const {
    const Matrix64& left = now_.left.values;
    const Matrix64& right = now_.right.values;
    const Matrix64 transposed = Transposed(right);
    const double cross = Dot(left, MatrixProduct(target_, transposed));
    const Matrix64 moments = MatrixProduct(MatrixProduct(right, h_), transposed);
    return Dot(MatrixProduct(Transposed(left), left), moments) - 2 * cross;
  }

  void NoteBest() {
    const double error = Error();
    if (!(error < best_error_)) return;
    best_error_ = error;
    best_ = now_;
  }

  // With regard to what errors of L do through `right`: R H R^T.
  absl::Status RoundLeft(const Matrix64& left, const Matrix64& right) {
    RoundOptions round{.encoding = options_.encoding};
    absl::StatusOr<LdlFactors> ldl;
    if (options_.ldl != nullptr && !options_.encoding.IsFloat()) {
      const Matrix64 moments = MatrixProduct(MatrixProduct(right, h_), Transposed(right));
      ldl = BlockLdl(moments, LdlWidth(options_.encoding), options_.damping);
      // Of an R without any effect nothing is to be compensated.
      if (ldl.ok()) round.ldl = &*ldl;
    }
    RK_ASSIGN_OR_RETURN(now_.left, RoundMatrix(left, round));
    return absl::OkStatus();
  }

  absl::Status FitAndRoundRight() {
    RK_ASSIGN_OR_RETURN(const Matrix64 right, FitRight(e_, now_.left.values));
    const bool with_ldl = !options_.encoding.IsFloat();
    RK_ASSIGN_OR_RETURN(now_.right, RoundMatrix(right, {.encoding = options_.encoding,
                                                        .ldl = with_ldl ? options_.ldl : nullptr}));
    NoteBest();
    return absl::OkStatus();
  }

  const Matrix64& e_;
  const Matrix64& h_;
  const LowRankOptions& options_;
  const Matrix64 target_;  // E H
  LowRank now_, best_;
  double best_error_ = std::numeric_limits<double>::infinity();
};

}  // namespace

absl::StatusOr<LowRank> FitLowRank(const Matrix64& e, const Matrix64& h,
                                   const LowRankOptions& options) {
  return LowRankFitter(e, h, options).Run();
}

Matrix64 ProductOf(const LowRank& factors) {
  return MatrixProduct(factors.left.values, factors.right.values);
}

}  // namespace rankine
