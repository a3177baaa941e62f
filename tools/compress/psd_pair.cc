// N1 / tr N1 + N2 / tr N2 = V L V^T makes W = V L^-1/2 with W^T (..) W = I; the eigenvectors Q of
// W^T N1 W diagonalise both, as what N2 has is what is left of I (Golub & Van Loan, section 8.7).
#include "tools/compress/psd_pair.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "Eigen/Core"
#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/eigen_views.h"
#include "tools/compress/symmetric_eigen.h"

namespace rankine {
namespace {

struct Eigenpairs {
  ColMajor vectors;
  Eigen::VectorXd values;  // rising, rounding below zero is zero
};

absl::StatusOr<Eigenpairs> Decompose(const ColMajor& symmetric) {
  Matrix64 matrix(symmetric.rows(), symmetric.cols());
  Eigen::Map<RowMajor>(matrix.values.data(), matrix.rows, matrix.cols) = symmetric;
  RK_ASSIGN_OR_RETURN(const SymmetricEigen falling,
                      LargestEigen(std::move(matrix), symmetric.rows()));
  const Eigen::Map<const Eigen::VectorXd> values(falling.values.data(), symmetric.rows());
  return Eigenpairs{View(falling.vectors).transpose().rowwise().reverse(),
                    values.reverse().cwiseMax(0)};
}

// Ends of the runs of indices that no entry of either matrix couples with others.
std::vector<int64_t> Blocks(const Matrix64& n1, const Matrix64& n2) {
  std::vector<int64_t> ends;
  int64_t reach = 0;
  for (int64_t i = 0; i < n1.rows; ++i) {
    for (int64_t j = n1.rows - 1; j > std::max(i, reach); --j) {
      if (n1(i, j) != 0 || n2(i, j) != 0) reach = j;
    }
    reach = std::max(reach, i);
    if (reach == i) ends.push_back(i + 1);
  }
  return ends;
}

}  // namespace

absl::StatusOr<PsdPair> DiagonalisePair(const Matrix64& n1, const Matrix64& n2) {
  RK_CHECK(n1.rows == n1.cols && n2.rows == n1.rows && n2.cols == n1.rows);
  const double trace1 = View(n1).trace(), trace2 = View(n2).trace();
  const double scale1 = trace1 > 0 ? 1 / trace1 : 0, scale2 = trace2 > 0 ? 1 / trace2 : 0;
  struct Part {
    int64_t begin;
    ColMajor basis;
    Eigen::VectorXd first;  // of n1 scale1
  };
  struct Whitened {
    int64_t begin, size;
    Eigenpairs sum;
  };
  std::vector<Whitened> blocks;
  double largest = 0;
  int64_t begin = 0;
  for (const int64_t end : Blocks(n1, n2)) {
    const int64_t size = end - begin;
    const ColMajor sum = scale1 * View(n1).block(begin, begin, size, size) +
                         scale2 * View(n2).block(begin, begin, size, size);
    RK_ASSIGN_OR_RETURN(Eigenpairs pairs, Decompose(sum));
    largest = std::max(largest, pairs.values[size - 1]);
    blocks.push_back({begin, size, std::move(pairs)});
    begin = end;
  }
  std::vector<Part> parts;
  int64_t rank = 0;
  for (const Whitened& b : blocks) {
    int64_t dropped = 0;
    while (dropped < b.size && b.sum.values[dropped] <= kSmallestShare * largest) ++dropped;
    const int64_t kept = b.size - dropped;
    if (kept == 0) continue;
    const ColMajor white = b.sum.vectors.rightCols(kept) *
                           b.sum.values.tail(kept).cwiseSqrt().cwiseInverse().asDiagonal();
    const ColMajor first =
        scale1 * (white.transpose() * View(n1).block(b.begin, b.begin, b.size, b.size) * white);
    RK_ASSIGN_OR_RETURN(const Eigenpairs pairs, Decompose(first));
    parts.push_back({b.begin, white * pairs.vectors, pairs.values.cwiseMin(1)});
    rank += kept;
  }
  PsdPair pair{.basis = Matrix64(n1.rows, rank)};
  int64_t column = 0;
  for (const Part& part : parts) {
    for (int64_t k = 0; k < part.basis.cols(); ++k, ++column) {
      pair.first.push_back(part.first[k] * trace1);
      pair.second.push_back(trace2 > 0 ? (1 - part.first[k]) * trace2 : 0);
      for (int64_t i = 0; i < part.basis.rows(); ++i) {
        pair.basis(part.begin + i, column) = part.basis(i, k);
      }
    }
  }
  return pair;
}

Matrix64 SolvePair(const PsdPair& n, const PsdPair& s, const Matrix64& r) {
  Matrix64 inside = MatrixProduct(MatrixProduct(Transposed(n.basis), r), s.basis);
  const auto weight = [&](int64_t i, int64_t j) {
    return n.first[i] * s.first[j] + n.second[i] * s.second[j];
  };
  double most = 0;
  for (int64_t i = 0; i < inside.rows; ++i) {
    for (int64_t j = 0; j < inside.cols; ++j) most = std::max(most, weight(i, j));
  }
  for (int64_t i = 0; i < inside.rows; ++i) {
    for (int64_t j = 0; j < inside.cols; ++j) {
      const double w = weight(i, j);
      inside(i, j) = w > kSmallestShare * most ? inside(i, j) / w : 0;
    }
  }
  return MatrixProduct(MatrixProduct(n.basis, inside), Transposed(s.basis));
}

absl::StatusOr<Matrix64> SymmetricRoot(const Matrix64& h) {
  RK_ASSIGN_OR_RETURN(const Eigenpairs pairs, Decompose(View(h)));
  Matrix64 root(h.rows, h.cols);
  Eigen::Map<RowMajor>(root.values.data(), h.rows, h.cols) =
      pairs.vectors * pairs.values.cwiseSqrt().asDiagonal() * pairs.vectors.transpose();
  return root;
}

}  // namespace rankine
