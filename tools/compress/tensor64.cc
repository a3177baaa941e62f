#include "tools/compress/tensor64.h"

#include <functional>
#include <numeric>
#include <utility>

#include "kernels/base/check.h"

namespace rankine {
namespace {

int64_t CountOf(absl::Span<const int64_t> sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>());
}

// `mode` first, the others after it in their order.
std::vector<size_t> ModeFirst(size_t mode, size_t order) {
  std::vector<size_t> modes{mode};
  for (size_t k = 0; k < order; ++k) {
    if (k != mode) modes.push_back(k);
  }
  return modes;
}

}  // namespace

Tensor64::Tensor64(std::vector<int64_t> sizes)
    : extents(std::move(sizes)), values(static_cast<size_t>(CountOf(extents))) {}

Tensor64::Tensor64(std::vector<int64_t> sizes, std::vector<double> numbers)
    : extents(std::move(sizes)), values(std::move(numbers)) {
  RK_CHECK(static_cast<int64_t>(values.size()) == CountOf(extents));
}

int64_t Tensor64::NumbersPerSlice(size_t mode) const {
  return static_cast<int64_t>(values.size()) / extents[mode];
}

Tensor64 Permuted(const Tensor64& t, absl::Span<const size_t> modes) {
  RK_CHECK(modes.size() == t.order());
  std::vector<int64_t> stride_of(t.order(), 1);
  for (size_t k = t.order(); k-- > 1;) stride_of[k - 1] = stride_of[k] * t.extents[k];
  std::vector<int64_t> extents, strides;
  for (const size_t mode : modes) {
    extents.push_back(t.extents[mode]);
    strides.push_back(stride_of[mode]);
  }
  Tensor64 result(extents);
  std::vector<int64_t> index(modes.size());
  int64_t at = 0;
  for (double& value : result.values) {
    value = t.values[at];
    for (size_t k = modes.size(); k-- > 0;) {
      at += strides[k];
      if (++index[k] < extents[k]) break;
      at -= index[k] * strides[k];
      index[k] = 0;
    }
  }
  return result;
}

Matrix64 Unfold(const Tensor64& t, size_t mode) {
  Matrix64 m(t.extents[mode], t.NumbersPerSlice(mode));
  m.values = mode == 0 ? t.values : Permuted(t, ModeFirst(mode, t.order())).values;
  return m;
}

Tensor64 Fold(const Matrix64& unfolding, size_t mode, const std::vector<int64_t>& extents) {
  RK_CHECK(unfolding.rows == extents[mode]);
  const std::vector<size_t> modes = ModeFirst(mode, extents.size());
  std::vector<int64_t> unfolded;
  std::vector<size_t> back(modes.size());
  for (size_t k = 0; k < modes.size(); ++k) {
    unfolded.push_back(extents[modes[k]]);
    back[modes[k]] = k;
  }
  return Permuted(Tensor64(unfolded, unfolding.values), back);
}

Tensor64 ModeProduct(const Tensor64& t, size_t mode, const Matrix64& m) {
  std::vector<int64_t> extents = t.extents;
  extents[mode] = m.rows;
  return Fold(MatrixProduct(m, Unfold(t, mode)), mode, extents);
}

double SquaredNorm(const Tensor64& t) {
  return std::inner_product(t.values.begin(), t.values.end(), t.values.begin(), 0.0);
}

}  // namespace rankine
