#include "tools/compress/mpo_decomposition.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

constexpr int64_t kMaxUnknowns = 8192;

double Trace(const Matrix64& h) {
  double trace = 0;
  for (int64_t i = 0; i < h.rows; ++i) trace += h(i, i);
  return trace;
}

// Fits C_1 [out_1, in_1, x] to the rest R [x, o, i] of the chain: with Q_a [x, o i], a an input of
// the first site, the rows of W's block out_1 are sum_a,x C_1[out_1, a, x] Q[(a, x)], so with R
// taken as the matrix [(a, x), (o, a, i)] of those maps, C_1 + (W - C_1 R) H R^T (R H R^T)^+ is the
// best, and what the inputs never excite stays as it is in C_1.
class FirstCoreFit {
 public:
  FirstCoreFit(const Matrix64& w, const Matrix64& h, const MpoShape& shape)
      : w_(w), h_(h), a_(shape[0].in), out_(shape[0].out), o_(w.rows / out_), i_(w.cols / a_) {}

  absl::StatusOr<Tensor64> Solve(const std::vector<Tensor64>& cores, const MpoShape& shape) const {
    const Matrix64 missing = MatrixProduct(Difference(w_, MpoProduct(cores, shape)), h_);
    const Matrix64 rest = Rest(cores, shape);
    const int64_t x = rest.rows / o_;  // rows (x, o), columns i
    Matrix64 by_bond = rest;           // [x, (o, i)]
    by_bond.rows = x;
    by_bond.cols = o_ * i_;
    const Matrix64 columns = Transposed(by_bond);
    Matrix64 gram(a_ * x, a_ * x), target(out_, a_ * x);
    for (int64_t a = 0; a < a_; ++a) {
      for (int64_t b = 0; b < a_; ++b) {
        Matrix64 weighted = MatrixProduct(rest, Block(h_, a * i_, b * i_));
        weighted.rows = x;
        weighted.cols = o_ * i_;
        Put(MatrixProduct(weighted, columns), a * x, b * x, &gram);
      }
      Matrix64 products(out_, o_ * i_);  // of what is missing, the columns of input a
      for (int64_t row = 0; row < missing.rows; ++row) {
        std::copy_n(missing.Row(row) + a * i_, i_, products.values.data() + row * i_);
      }
      Put(MatrixProduct(products, columns), 0, a * x, &target);
    }
    RK_ASSIGN_OR_RETURN(const Matrix64 change, SolveSymmetric(gram, target));
    Tensor64 core = cores[0];
    for (size_t k = 0; k < core.values.size(); ++k) core.values[k] += change.values[k];
    return core;
  }

 private:
  // The cores behind the first as [(x, o), i].
  Matrix64 Rest(const std::vector<Tensor64>& cores, const MpoShape& shape) const {
    std::vector<Tensor64> behind(cores.begin() + 1, cores.end());
    const int64_t x = behind[0].extents[0];
    // The bond becomes outputs of the first site behind.
    MpoShape rest(shape.begin() + 1, shape.end());
    behind[0] = Tensor64({1, x * behind[0].extents[1], behind[0].extents[2]}, behind[0].values);
    rest[0].out *= x;
    return MpoProduct(behind, rest);
  }

  Matrix64 Block(const Matrix64& from, int64_t row, int64_t col) const {
    Matrix64 block(i_, i_);
    for (int64_t r = 0; r < i_; ++r) std::copy_n(from.Row(row + r) + col, i_, block.Row(r));
    return block;
  }

  static void Put(const Matrix64& block, int64_t row, int64_t col, Matrix64* into) {
    for (int64_t r = 0; r < block.rows; ++r) {
      std::copy_n(block.Row(r), block.cols, into->Row(row + r) + col);
    }
  }

  const Matrix64& w_;
  const Matrix64& h_;
  const int64_t a_, out_, o_, i_;
};

}  // namespace

absl::StatusOr<TensorTrain> DecomposeMpo(const Matrix64& w, const MpoShape& shape, int64_t bond) {
  RK_RETURN_IF_ERROR(CheckFinite(w));
  return TensorTrainSvd(ToSites(w, shape), MpoBonds(shape, bond));
}

absl::Status CheckMpoFit(const MpoShape& shape, int64_t bond) {
  const int64_t unknowns = shape[0].in * MpoBonds(shape, bond)[0];
  if (unknowns <= kMaxUnknowns) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat("the weighted fit of ", Name(shape), " at bond ", bond, " is a system of ",
                   unknowns, " unknowns, more than ", kMaxUnknowns,
                   "; use --weighting none, or fewer inputs in the first site"));
}

absl::StatusOr<std::vector<Tensor64>> DecomposeMpoUnder(const Matrix64& w, const Matrix64& h,
                                                        const MpoShape& shape, int64_t bond) {
  if (h.rows != w.cols || h.cols != w.cols) {
    return absl::InvalidArgumentError(absl::StrCat("second moments of ", h.rows, " x ", h.cols,
                                                   " do not fit a ", w.rows, " x ", w.cols,
                                                   " matrix"));
  }
  RK_RETURN_IF_ERROR(CheckFinite(h));
  if (Trace(h) <= 0) {
    return absl::InvalidArgumentError("the calibration text never excites this matrix");
  }
  RK_RETURN_IF_ERROR(CheckMpoFit(shape, bond));
  RK_ASSIGN_OR_RETURN(TensorTrain train, DecomposeMpo(w, shape, bond));
  RK_ASSIGN_OR_RETURN(train.cores[0], FirstCoreFit(w, h, shape).Solve(train.cores, shape));
  return std::move(train.cores);
}

Matrix64 MpoProduct(const std::vector<Tensor64>& cores, const MpoShape& shape) {
  return FromSites(Contracted(cores), shape);
}

}  // namespace rankine
