#include "tools/compress/dense_product.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "Eigen/Core"
#include "absl/strings/str_cat.h"
#include "models/status_macros.h"
#include "runtime/factor/core_reader.h"
#include "runtime/factor/host_tensor.h"
#include "tools/compress/eigen_views.h"
#include "tools/compress/hadamard.h"

namespace rankine {
namespace {

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
    std::vector<float> signs(static_cast<size_t>(n)), block = {1.0f};
    RK_RETURN_IF_ERROR(source.ReadRows(t.tensor, 0, 1, n, DType::kF32, signs.data()));
    int64_t b = 1;
    if (!t.block_tensor.empty()) {
      RK_ASSIGN_OR_RETURN(b, source.NumRows(t.block_tensor));
      block.resize(static_cast<size_t>(b * b));
      RK_RETURN_IF_ERROR(source.ReadRows(t.block_tensor, 0, b, b, DType::kF32, block.data()));
    }
    if (b < 1 || n % b != 0 || (n / b & (n / b - 1)) != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", t.block_tensor, ": a Hadamard transform of ", n,
                       " features with a block of ", b, " needs a power of two of them"));
    }
    v.hadamard_.emplace(std::vector<double>(signs.begin(), signs.end()),
                        std::vector<double>(block.begin(), block.end()), b);
    return v;
  }

  // x becomes A x, or A^T x, the inverse of both kinds.
  void Apply(bool adjoint, double* x, int64_t n) const {
    if (hadamard_) {
      transposed_ != adjoint ? hadamard_->ApplyInverse(x) : hadamard_->Apply(x);
      return;
    }
    const std::vector<double> old(x, x + n);
    for (int64_t k = 0; k < n; ++k) {
      adjoint ? x[indices_[k]] = old[k] : x[k] = old[indices_[k]];
    }
  }

 private:
  std::vector<int32_t> indices_;
  std::optional<HadamardTransform> hadamard_;
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
