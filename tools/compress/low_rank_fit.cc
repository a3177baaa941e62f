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

// What a fit to R needs of it.
struct RightProducts {
  Matrix64 moments;  // R H R^T [r, r]
  Matrix64 cross;    // E H R^T [m, r]
};

RightProducts ProductsOf(const Matrix64& right, const Matrix64& eh, const Matrix64& h) {
  const Matrix64 transposed = Transposed(right);
  return {MatrixProduct(MatrixProduct(right, h), transposed), MatrixProduct(eh, transposed)};
}

double Change(const Matrix64& left, const RightProducts& right) {
  return Dot(MatrixProduct(Transposed(left), left), right.moments) - 2 * Dot(left, right.cross);
}

class LowRankFitter {
 public:
  LowRankFitter(const Matrix64& e, const Matrix64& eh, const Matrix64& h,
                const LowRankOptions& options)
      : e_(e), eh_(eh), h_(h), options_(options) {}

  absl::StatusOr<LowRank> Run() {
    RK_ASSIGN_OR_RETURN(SvdFactors svd, WeightedSvd(e_, eh_, h_, options_.rank));
    // L is orthonormal: its groups hold numbers of one size, and the rows of R have their own
    // scales.
    for (int64_t k = 0; k < options_.rank; ++k) {
      for (int64_t j = 0; j < e_.cols; ++j) svd.v(k, j) *= svd.s[k];
    }
    if (rounds_with_moments()) right_ = ProductsOf(svd.v, eh_, h_);
    RK_RETURN_IF_ERROR(RoundLeft(svd.u));
    RK_RETURN_IF_ERROR(FitAndRoundRight());
    for (int64_t round = 0; round < options_.rounds; ++round) {
      // The L nearest to E beside R as it is stored.
      RK_ASSIGN_OR_RETURN(const Matrix64 left, SolveSymmetric(right_.moments, right_.cross));
      RK_RETURN_IF_ERROR(RoundLeft(left));
      NoteBest();
      RK_RETURN_IF_ERROR(FitAndRoundRight());
    }
    return std::move(best_);
  }

 private:
  bool rounds_with_moments() const {
    return options_.ldl != nullptr && !options_.encoding.IsFloat();
  }

  void NoteBest() {
    const double error = Change(now_.left.values, right_);
    if (!(error < best_error_)) return;
    best_error_ = error;
    best_ = now_;
  }

  // With regard to what errors of L do through R: R H R^T.
  absl::Status RoundLeft(const Matrix64& left) {
    RoundOptions round{.encoding = options_.encoding};
    absl::StatusOr<LdlFactors> ldl;
    if (rounds_with_moments()) {
      ldl = BlockLdl(right_.moments, LdlWidth(options_.encoding), options_.damping);
      // Of an R without any effect nothing is to be compensated.
      if (ldl.ok()) round.ldl = &*ldl;
    }
    RK_ASSIGN_OR_RETURN(now_.left, RoundMatrix(left, round));
    return absl::OkStatus();
  }

  absl::Status FitAndRoundRight() {
    RK_ASSIGN_OR_RETURN(const Matrix64 right, FitRight(e_, now_.left.values));
    RK_ASSIGN_OR_RETURN(
        now_.right, RoundMatrix(right, {.encoding = options_.encoding,
                                        .ldl = rounds_with_moments() ? options_.ldl : nullptr}));
    right_ = ProductsOf(now_.right.values, eh_, h_);
    NoteBest();
    return absl::OkStatus();
  }

  const Matrix64& e_;
  const Matrix64& eh_;
  const Matrix64& h_;
  const LowRankOptions& options_;
  LowRank now_, best_;
  RightProducts right_;  // of the present R
  double best_error_ = std::numeric_limits<double>::infinity();
};

}  // namespace

absl::StatusOr<LowRank> FitLowRank(const Matrix64& e, const Matrix64& h,
                                   const LowRankOptions& options) {
  return FitLowRank(e, MatrixProduct(e, h), h, options);
}

absl::StatusOr<LowRank> FitLowRank(const Matrix64& e, const Matrix64& eh, const Matrix64& h,
                                   const LowRankOptions& options) {
  return LowRankFitter(e, eh, h, options).Run();
}

double ErrorChange(const LowRank& factors, const Matrix64& eh, const Matrix64& h) {
  return Change(factors.left.values, ProductsOf(factors.right.values, eh, h));
}

Matrix64 ProductOf(const LowRank& factors) {
  return MatrixProduct(factors.left.values, factors.right.values);
}

}  // namespace rankine
