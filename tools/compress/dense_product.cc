#include "tools/compress/dense_product.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "Eigen/Core"
#include "absl/strings/str_cat.h"
#include "models/status_macros.h"
#include "runtime/factor/core_reader.h"
#include "runtime/factor/host_tensor.h"

namespace rankine {
namespace {

using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstMap = Eigen::Map<const RowMajor>;

bool Has(const std::vector<int>& legs, int leg) {
  return std::find(legs.begin(), legs.end(), leg) != legs.end();
}

// The numbers of `tensor` in another order of its legs.
std::vector<double> InOrder(const TermLegs& legs, const HostTensor& tensor,
                            const std::vector<int>& order) {
  if (order == tensor.legs) return tensor.data;
  std::vector<int64_t> stride_of(legs.extents.size());
  int64_t stride = 1;
  for (size_t i = tensor.legs.size(); i-- > 0;) {
    stride_of[tensor.legs[i]] = stride;
    stride *= legs.extents[tensor.legs[i]];
  }
  std::vector<double> result(tensor.data.size());
  std::vector<int64_t> index(order.size());
  int64_t at = 0;
  for (double& value : result) {
    value = tensor.data[at];
    for (size_t i = order.size(); i-- > 0;) {
      at += stride_of[order[i]];
      if (++index[i] < legs.extents[order[i]]) break;
      at -= index[i] * stride_of[order[i]];
      index[i] = 0;
    }
  }
  return result;
}

// Two tensors whose common legs are all summed are one matrix product; others go index by index.
void AddProduct(const TermLegs& legs, const TensorProduct& p, Matrix64* sum) {
  std::vector<int> wanted = p.row_legs, summed, left, right;
  wanted.insert(wanted.end(), p.column_legs.begin(), p.column_legs.end());
  for (const int leg : p.a.legs) (Has(p.b.legs, leg) ? summed : left).push_back(leg);
  for (const int leg : p.b.legs) {
    if (!Has(p.a.legs, leg)) right.push_back(leg);
  }
  HostTensor product{.legs = left};
  product.legs.insert(product.legs.end(), right.begin(), right.end());
  const bool is_matrix_product = product.legs.size() == wanted.size();
  std::vector<double> values;
  if (is_matrix_product) {
    const int64_t m = legs.Size(left), k = legs.Size(summed), n = legs.Size(right);
    std::vector<int> a_order = left, b_order = summed;
    a_order.insert(a_order.end(), summed.begin(), summed.end());
    b_order.insert(b_order.end(), right.begin(), right.end());
    const std::vector<double> a = InOrder(legs, p.a, a_order), b = InOrder(legs, p.b, b_order);
    product.data.resize(static_cast<size_t>(m * n));
    Eigen::Map<RowMajor>(product.data.data(), m, n).noalias() =
        ConstMap(a.data(), m, k) * ConstMap(b.data(), k, n);
    values = InOrder(legs, product, wanted);
  } else {
    values.resize(sum->values.size());
    p.Rows(0, sum->rows, values.data());
  }
  for (size_t i = 0; i < values.size(); ++i) sum->values[i] += values[i];
}

Matrix64 Transposed(const Matrix64& a) {
  Matrix64 t(a.cols, a.rows);
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < a.cols; ++j) t(j, i) = a(i, j);
  }
  return t;
}

// A transform of vectors of n numbers, as Transform says.
class VectorTransform {
 public:
  static absl::StatusOr<VectorTransform> Read(const Transform& t, int64_t n,
                                              const TensorSource& source) {
    VectorTransform v;
    if (t.kind == Transform::Kind::kPermutation) {
      v.indices_.resize(static_cast<size_t>(n));
      RK_RETURN_IF_ERROR(source.ReadRows(t.tensor, 0, 1, n, DType::kI32, v.indices_.data()));
      for (const int32_t index : v.indices_) {
        if (index >= 0 && index < n) continue;
        return absl::InvalidArgumentError(
            absl::StrCat("tensor ", t.tensor, ": index ", index, " is outside [0, ", n, ")"));
      }
      return v;
    }
    v.transposed_ = t.transposed;
    std::vector<float> signs(static_cast<size_t>(n));
    RK_RETURN_IF_ERROR(source.ReadRows(t.tensor, 0, 1, n, DType::kF32, signs.data()));
    v.signs_.assign(signs.begin(), signs.end());
    v.block_ = {1.0};
    if (t.block_tensor.empty()) return v;
    RK_ASSIGN_OR_RETURN(const int64_t b, source.NumRows(t.block_tensor));
    std::vector<float> block(static_cast<size_t>(b * b));
    RK_RETURN_IF_ERROR(source.ReadRows(t.block_tensor, 0, b, b, DType::kF32, block.data()));
    v.block_.assign(block.begin(), block.end());
    v.block_size_ = b;
    return v;
  }

  // x becomes A x, or A^T x, the inverse of both kinds.
  void Apply(bool adjoint, double* x, int64_t n) const {
    if (indices_.empty()) return Hadamard(transposed_ != adjoint, x, n);
    const std::vector<double> old(x, x + n);
    for (int64_t k = 0; k < n; ++k) {
      adjoint ? x[indices_[k]] = old[k] : x[k] = old[indices_[k]];
    }
  }

 private:
  void Hadamard(bool inverse, double* x, int64_t n) const {
    const int64_t b = block_size_;
    if (!inverse) {
      for (int64_t i = 0; i < n; ++i) x[i] *= signs_[i];
    }
    std::vector<double> part(static_cast<size_t>(b));
    for (int64_t first = 0; first < n; first += b) {
      for (int64_t i = 0; i < b; ++i) {
        part[i] = 0;
        for (int64_t j = 0; j < b; ++j) {
          part[i] += block_[inverse ? j * b + i : i * b + j] * x[first + j];
        }
      }
      std::copy(part.begin(), part.end(), x + first);
    }
    for (int64_t half = b; half < n; half *= 2) {
      for (int64_t i = 0; i < n; ++i) {
        if (i / half % 2 != 0) continue;
        const double u = x[i], v = x[i + half];
        x[i] = (u + v) * M_SQRT1_2;
        x[i + half] = (u - v) * M_SQRT1_2;
      }
    }
    if (inverse) {
      for (int64_t i = 0; i < n; ++i) x[i] *= signs_[i];
    }
  }

  std::vector<int32_t> indices_;
  std::vector<double> signs_, block_;
  int64_t block_size_ = 1;
  bool transposed_ = false;
};

// W' = A_out M A_in, where A_in = A_k .. A_1.
absl::Status ApplyTransforms(const FactoredMatrix& matrix, const TensorSource& source,
                             Matrix64* m) {
  for (auto t = matrix.input_transforms.rbegin(); t != matrix.input_transforms.rend(); ++t) {
    RK_ASSIGN_OR_RETURN(const auto transform, VectorTransform::Read(*t, m->cols, source));
    for (int64_t i = 0; i < m->rows; ++i) transform.Apply(/*adjoint=*/true, m->Row(i), m->cols);
  }
  if (matrix.output_transforms.empty()) return absl::OkStatus();
  *m = Transposed(*m);
  for (const Transform& t : matrix.output_transforms) {
    RK_ASSIGN_OR_RETURN(const auto transform, VectorTransform::Read(t, m->cols, source));
    for (int64_t i = 0; i < m->rows; ++i) transform.Apply(/*adjoint=*/false, m->Row(i), m->cols);
  }
  *m = Transposed(*m);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Matrix64> DenseProduct(const FactoredMatrix& matrix, const TensorSource& source) {
  Matrix64 sum(matrix.out_features, matrix.in_features);
  for (const Term& term : matrix.terms) {
    const TermLegs legs = LegsOf(matrix, term);
    std::vector<HostTensor> tensors;
    for (const Core& core : term.cores) {
      RK_ASSIGN_OR_RETURN(HostTensor tensor, ReadWholeCore(legs, core, source));
      tensors.push_back(std::move(tensor));
    }
    AddProduct(legs, FoldTensors(legs, std::move(tensors), legs.output, legs.input), &sum);
  }
  RK_RETURN_IF_ERROR(ApplyTransforms(matrix, source, &sum));
  return sum;
}

StoredSize SizeOfStored(absl::Span<const FactoredMatrix> matrices,
                        absl::Span<const StoredTensor> tensors) {
  StoredSize size;
  std::set<std::string> names, counted;
  for (const StoredTensor& t : tensors) names.insert(t.name);
  for (const FactoredMatrix& m : matrices) {
    for (const Term& term : m.terms) {
      for (const Core& core : term.cores) {
        const std::string& tensor = core.tensors[0].tensor;
        if (core.legs.size() < 2 || names.count(tensor) == 0) continue;
        if (!counted.insert(tensor).second) continue;
        int64_t numbers = 1;
        for (const LegRange& leg : core.legs) {
          numbers *= leg.stored_extent != 0 ? leg.stored_extent : leg.extent;
        }
        size.parameters += numbers;
      }
    }
    if (names.count(m.bias_tensor) != 0) size.parameters += m.out_features;
  }
  for (const StoredTensor& t : tensors) size.bits += 8 * static_cast<int64_t>(t.bytes.size());
  return size;
}

}  // namespace rankine
