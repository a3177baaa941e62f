// Matrix64 as Eigen sees it. Includes a third-party header: for .cc files.
#pragma once

#include "Eigen/Core"
#include "tools/compress/linalg.h"

namespace rankine {

using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ColMajor = Eigen::MatrixXd;

// Below this share of the largest, an eigenvalue of a Gram matrix is rounding.
inline constexpr double kSmallestShare = 1e-12;

inline Eigen::Map<const RowMajor> View(const Matrix64& a) {
  return Eigen::Map<const RowMajor>(a.values.data(), a.rows, a.cols);
}

inline Eigen::Map<RowMajor> View(Matrix64& a) {
  return Eigen::Map<RowMajor>(a.values.data(), a.rows, a.cols);
}

}  // namespace rankine
