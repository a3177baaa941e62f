#include "tools/export/dense_weight.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "Eigen/Core"
#include "absl/strings/str_cat.h"
#include "models/checkpoint_source.h"
#include "models/status_macros.h"
#include "runtime/factor/core_reader.h"
#include "tools/compress/eigen_views.h"

namespace rankine {
namespace {

// Rows a thread takes at a time: enough for a matrix product to be one.
constexpr int64_t kChunkRows = 64;

std::vector<int> Concat(std::vector<int> a, const std::vector<int>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Whether the product is a [rows, k] times b [k, columns] as they lie in memory; k is then set.
bool IsPlainProduct(const TensorProduct& product, int64_t* k) {
  std::vector<int> summed;
  for (const int leg : product.a.legs) {
    const auto& rows = product.row_legs;
    if (std::find(rows.begin(), rows.end(), leg) == rows.end()) summed.push_back(leg);
  }
  *k = product.legs->Size(summed);
  return product.a.legs == Concat(product.row_legs, summed) &&
         product.b.legs == Concat(summed, product.column_legs);
}

// One term into `w`, which is overwritten.
absl::Status MultiplyOut(const Checkpoint& checkpoint, const FactoredMatrix& matrix,
                         const Term& term, ThreadPool& pool, Matrix64* w) {
  const CheckpointSource source(checkpoint);
  const TermLegs legs = LegsOf(matrix, term);
  std::vector<HostTensor> tensors;
  for (const Core& core : term.cores) {
    RK_ASSIGN_OR_RETURN(HostTensor tensor, ReadWholeCore(legs, core, source));
    tensors.push_back(std::move(tensor));
  }
  const TensorProduct product = FoldTensors(legs, std::move(tensors), legs.output, legs.input);
  int64_t k = 0;
  const bool plain = IsPlainProduct(product, &k);
  WorkQueue queue(w->rows, kChunkRows);
  pool.Run([&](int) {
    for (int64_t begin = 0, end = 0; queue.Next(&begin, &end);) {
      if (!plain) {
        product.Rows(begin, end, w->Row(begin));
        continue;
      }
      const Eigen::Map<const RowMajor> a(product.a.data.data() + begin * k, end - begin, k);
      const Eigen::Map<const RowMajor> b(product.b.data.data(), k, w->cols);
      Eigen::Map<RowMajor>(w->Row(begin), end - begin, w->cols).noalias() = a * b;
    }
  });
  return absl::OkStatus();
}

// A transform on the host.
struct HostTransform {
  Transform::Kind kind;
  bool transposed = false;
  std::vector<int64_t> indices;  // kPermutation
  std::vector<double> signs, block;
  int64_t block_size = 1;
};

absl::StatusOr<const TensorInfo*> Find(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo* tensor = checkpoint.Find(name);
  if (tensor == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", name, " is missing"));
  }
  return tensor;
}

absl::StatusOr<HostTransform> ReadTransform(const Checkpoint& checkpoint, const Transform& t,
                                            int64_t features) {
  HostTransform host{.kind = t.kind, .transposed = t.transposed};
  RK_ASSIGN_OR_RETURN(const TensorInfo* tensor, Find(checkpoint, t.tensor));
  if (t.kind == Transform::Kind::kPermutation) {
    std::vector<int32_t> indices(static_cast<size_t>(features));
    RK_RETURN_IF_ERROR(checkpoint.ReadRows(*tensor, 0, 1, DType::kI32, indices.data()));
    for (const int32_t index : indices) {
      if (index < 0 || index >= features) {
        return absl::InvalidArgumentError(
            absl::StrCat("tensor ", t.tensor, ": the index ", index, " is outside ", features));
      }
    }
    host.indices.assign(indices.begin(), indices.end());
    return host;
  }
  std::vector<float> values(static_cast<size_t>(features));
  RK_RETURN_IF_ERROR(checkpoint.ReadRows(*tensor, 0, 1, DType::kF32, values.data()));
  host.signs.assign(values.begin(), values.end());
  if (t.block_tensor.empty()) return host;
  RK_ASSIGN_OR_RETURN(const TensorInfo* block, Find(checkpoint, t.block_tensor));
  host.block_size = block->shape[0];
  values.resize(static_cast<size_t>(host.block_size * host.block_size));
  RK_RETURN_IF_ERROR(checkpoint.ReadRows(*block, 0, host.block_size, DType::kF32, values.data()));
  host.block.assign(values.begin(), values.end());
  return host;
}

// v = (H_p kron B) v / sqrt(2^p), or with B^T; Sylvester's H_p is symmetric.
void Hadamard(const HostTransform& t, bool block_transposed, std::vector<double>* v) {
  const auto n = static_cast<int64_t>(v->size());
  const int64_t b = t.block_size;
  for (int64_t half = b; half < n; half *= 2) {
    for (int64_t begin = 0; begin < n; begin += 2 * half) {
      for (int64_t i = begin; i < begin + half; ++i) {
        const double x = (*v)[i], y = (*v)[i + half];
        (*v)[i] = x + y;
        (*v)[i + half] = x - y;
      }
    }
  }
  const double scale = 1 / std::sqrt(static_cast<double>(n / b));
  std::vector<double> out(static_cast<size_t>(b));
  for (int64_t begin = 0; begin < n; begin += b) {
    for (int64_t r = 0; r < b; ++r) {
      out[r] = t.block.empty() ? (*v)[begin + r] : 0;
      for (int64_t c = 0; c < (t.block.empty() ? 0 : b); ++c) {
        out[r] += t.block[block_transposed ? c * b + r : r * b + c] * (*v)[begin + c];
      }
    }
    for (int64_t r = 0; r < b; ++r) (*v)[begin + r] = out[r] * scale;
  }
}

void MultiplySigns(const HostTransform& t, std::vector<double>* v) {
  for (size_t i = 0; i < v->size(); ++i) (*v)[i] *= t.signs[i];
}

// v = T v, or T^T v with `adjoint`.
void Apply(const HostTransform& t, bool adjoint, std::vector<double>* v) {
  if (t.kind == Transform::Kind::kPermutation) {
    std::vector<double> out(v->size());
    for (size_t k = 0; k < v->size(); ++k) {
      if (adjoint) {
        out[t.indices[k]] += (*v)[k];
      } else {
        out[k] = (*v)[t.indices[k]];
      }
    }
    v->swap(out);
    return;
  }
  // Forward: H D, or D H^T transposed; the adjoint of one has the order of the other.
  const bool signs_last = t.transposed != adjoint;
  if (!signs_last) MultiplySigns(t, v);
  Hadamard(t, /*block_transposed=*/signs_last, v);
  if (signs_last) MultiplySigns(t, v);
}

// W T: T^T applied to each row, T the transforms of the input in order.
absl::Status ApplyToInput(const Checkpoint& checkpoint, const FactoredMatrix& matrix, Matrix64* w) {
  for (auto t = matrix.input_transforms.rbegin(); t != matrix.input_transforms.rend(); ++t) {
    RK_ASSIGN_OR_RETURN(const HostTransform host, ReadTransform(checkpoint, *t, w->cols));
    std::vector<double> row(static_cast<size_t>(w->cols));
    for (int64_t r = 0; r < w->rows; ++r) {
      std::copy(w->Row(r), w->Row(r) + w->cols, row.begin());
      Apply(host, /*adjoint=*/true, &row);
      std::copy(row.begin(), row.end(), w->Row(r));
    }
  }
  return absl::OkStatus();
}

absl::Status ApplyToOutput(const Checkpoint& checkpoint, const FactoredMatrix& matrix,
                           Matrix64* w) {
  for (const Transform& t : matrix.output_transforms) {
    RK_ASSIGN_OR_RETURN(const HostTransform host, ReadTransform(checkpoint, t, w->rows));
    std::vector<double> column(static_cast<size_t>(w->rows));
    for (int64_t c = 0; c < w->cols; ++c) {
      for (int64_t r = 0; r < w->rows; ++r) column[r] = (*w)(r, c);
      Apply(host, /*adjoint=*/false, &column);
      for (int64_t r = 0; r < w->rows; ++r) (*w)(r, c) = column[r];
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Matrix64> DenseWeight(const Checkpoint& checkpoint, const FactoredMatrix& matrix,
                                     ThreadPool& pool) {
  Matrix64 sum(matrix.out_features, matrix.in_features);
  for (size_t i = 0; i < matrix.terms.size(); ++i) {
    Matrix64 term(i == 0 ? 0 : sum.rows, sum.cols);
    RK_RETURN_IF_ERROR(
        MultiplyOut(checkpoint, matrix, matrix.terms[i], pool, i == 0 ? &sum : &term));
    for (size_t k = 0; k < term.values.size(); ++k) sum.values[k] += term.values[k];
  }
  RK_RETURN_IF_ERROR(ApplyToInput(checkpoint, matrix, &sum));
  RK_RETURN_IF_ERROR(ApplyToOutput(checkpoint, matrix, &sum));
  return sum;
}

}  // namespace rankine
