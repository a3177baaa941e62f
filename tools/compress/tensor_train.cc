#include "tools/compress/tensor_train.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

Matrix64 AsMatrix(int64_t rows, std::vector<double> values) {
  Matrix64 m;
  m.rows = rows;
  m.cols = static_cast<int64_t>(values.size()) / rows;
  m.values = std::move(values);
  return m;
}

absl::Status CheckBonds(absl::Span<const int64_t> bonds, absl::Span<const int64_t> most) {
  RK_CHECK(bonds.size() == most.size());
  for (size_t k = 0; k < bonds.size(); ++k) {
    if (bonds[k] >= 1 && bonds[k] <= most[k]) continue;
    return absl::InvalidArgumentError(absl::StrCat("bond ", bonds[k], " between sites ", k + 1,
                                                   " and ", k + 2, " is outside [1, ", most[k],
                                                   "]"));
  }
  return absl::OkStatus();
}

// diag(s) v of what is kept.
Matrix64 Remainder(const SvdFactors& f) {
  Matrix64 rest = f.v;
  for (int64_t r = 0; r < rest.rows; ++r) {
    for (int64_t j = 0; j < rest.cols; ++j) rest(r, j) *= f.s[r];
  }
  return rest;
}

}  // namespace

std::vector<int64_t> LargestBonds(absl::Span<const int64_t> extents) {
  int64_t right = 1, left = 1;
  for (const int64_t d : extents) right *= d;
  std::vector<int64_t> bonds;
  for (size_t k = 0; k + 1 < extents.size(); ++k) {
    left *= extents[k];
    right /= extents[k];
    bonds.push_back(std::min(left, right));
  }
  return bonds;
}

absl::StatusOr<TensorTrain> TensorTrainSvd(const Tensor64& t, absl::Span<const int64_t> bonds) {
  RK_RETURN_IF_ERROR(CheckBonds(bonds, LargestBonds(t.extents)));
  TensorTrain train;
  int64_t bond = 1;
  std::vector<double> rest = t.values;
  for (size_t k = 0; k + 1 < t.order(); ++k) {
    const Matrix64 unfolding = AsMatrix(bond * t.extents[k], std::move(rest));
    // A bond that an earlier one has made the widest possible.
    const int64_t next = std::min({bonds[k], unfolding.rows, unfolding.cols});
    RK_ASSIGN_OR_RETURN(const SvdFactors f, TruncatedSvd(unfolding, next));
    double kept = 0;
    for (const double s : f.s) kept += s * s;
    train.discarded += std::max(0.0, SquaredNorm(unfolding) - kept);
    train.cores.emplace_back(std::vector<int64_t>{bond, t.extents[k], next}, f.u.values);
    rest = Remainder(f).values;
    bond = next;
  }
  train.cores.emplace_back(std::vector<int64_t>{bond, t.extents.back(), 1}, std::move(rest));
  return train;
}

Tensor64 Contracted(absl::Span<const Tensor64> cores) {
  RK_CHECK(!cores.empty());
  std::vector<int64_t> extents;
  Matrix64 product = AsMatrix(1, {1.0});
  for (const Tensor64& core : cores) {
    extents.push_back(core.extents[1]);
    product = MatrixProduct(product, AsMatrix(core.extents[0], core.values));
    product.rows = static_cast<int64_t>(product.values.size()) / core.extents[2];
    product.cols = core.extents[2];
  }
  return Tensor64(extents, std::move(product.values));
}

}  // namespace rankine
