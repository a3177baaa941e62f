// E is quadratic in G and in C alone. With K = A x B and P = K G its normal equations, for the
// change of one of them, are
//
//   (K^T w K) dG (C H C^T) + (K_o^T v H_o K_o) dG (C C^T) = K^T (w D H + v H_o D_o) C^T
//   (P^T w P) dC H         + (P_o^T v H_o P_o) dC         = P^T (w D H + v H_o D_o)
//
// where w and H act on the first rows and H_o on the others.
#include "tools/compress/stack_fit.h"

#include <algorithm>
#include <utility>

#include "kernels/base/check.h"
#include "models/status_macros.h"
#include "tools/compress/psd_pair.h"

namespace rankine {
namespace {

Matrix64 Rows(const Matrix64& a, int64_t begin, int64_t end) {
  Matrix64 part(end - begin, a.cols);
  std::copy(a.Row(begin), a.Row(end), part.values.begin());
  return part;
}

void Add(const Matrix64& b, Matrix64* a) {
  for (size_t i = 0; i < b.values.size(); ++i) a->values[i] += b.values[i];
}

Matrix64 Kronecker(const Matrix64& a, const Matrix64& b) {
  Matrix64 k(a.rows * b.rows, a.cols * b.cols);
  for (int64_t i = 0; i < k.rows; ++i) {
    for (int64_t j = 0; j < k.cols; ++j) {
      k(i, j) = a(i / b.rows, j / b.cols) * b(i % b.rows, j % b.cols);
    }
  }
  return k;
}

class Fit {
 public:
  Fit(const Matrix64& t, const StackMetric& metric, StackForm* form)
      : t_(t),
        metric_(metric),
        form_(form),
        split_(static_cast<int64_t>(metric.row_weights.size())),
        k_(Kronecker(form->heads, form->dims)) {
    RK_CHECK(split_ + metric.transposed.rows == t.rows && k_.rows == t.rows);
  }

  absl::Status Run(const StackFitOptions& options) {
    RK_ASSIGN_OR_RETURN(const PsdPair left, LeftPair(k_));
    const bool has_features = form_->features.rows < form_->features.cols;
    PsdPair inputs;
    if (has_features) {
      RK_ASSIGN_OR_RETURN(inputs, DiagonalisePair(metric_.inputs, Identity(metric_.inputs.rows)));
    }
    double error = StackError(metric_, Difference(t_, StackProduct(*form_)));
    for (int round = 0; round < options.max_rounds; ++round) {
      StackForm next = *form_;
      RK_RETURN_IF_ERROR(StepCore(left, &next));
      if (has_features) {
        RK_RETURN_IF_ERROR(StepFeatures(inputs, &next));
        RK_RETURN_IF_ERROR(Orthonormalise(&next));
      }
      const double now = StackError(metric_, Difference(t_, StackProduct(next)));
      if (now >= error) break;  // rounding: it has converged
      const bool converged = error - now <= options.least_gain * error;
      error = now;
      *form_ = std::move(next);
      if (converged || !has_features) break;
    }
    return has_features ? Orthonormalise(form_) : absl::OkStatus();
  }

 private:
  // m^T w m and m^T v H_o m, of the rows of each metric.
  absl::StatusOr<PsdPair> LeftPair(const Matrix64& m) const {
    const Matrix64 first = Rows(m, 0, split_), second = Rows(m, split_, m.rows);
    Matrix64 weighted = first;
    for (int64_t i = 0; i < split_; ++i) {
      for (int64_t j = 0; j < m.cols; ++j) weighted(i, j) *= metric_.row_weights[i];
    }
    return DiagonalisePair(
        MatrixProduct(Transposed(first), weighted),
        MatrixProduct(Transposed(second), MatrixProduct(metric_.transposed, second)));
  }

  // w D H and v H_o D_o, one below the other [rows, features]: minus half of the gradient.
  Matrix64 Pull(const StackForm& form) const {
    const Matrix64 difference = Difference(t_, StackProduct(form));
    const Matrix64 first = MatrixProduct(Rows(difference, 0, split_), metric_.inputs);
    const Matrix64 second =
        MatrixProduct(metric_.transposed, Rows(difference, split_, difference.rows));
    Matrix64 pull(t_.rows, t_.cols);
    std::copy(second.values.begin(), second.values.end(), pull.Row(split_));
    for (int64_t i = 0; i < split_; ++i) {
      for (int64_t j = 0; j < t_.cols; ++j) pull(i, j) = metric_.row_weights[i] * first(i, j);
    }
    return pull;
  }

  absl::Status StepCore(const PsdPair& left, StackForm* form) const {
    const Matrix64 ct = Transposed(form->features);
    RK_ASSIGN_OR_RETURN(
        const PsdPair right,
        DiagonalisePair(MatrixProduct(form->features, MatrixProduct(metric_.inputs, ct)),
                        MatrixProduct(form->features, ct)));
    const Matrix64 change =
        SolvePair(left, right, MatrixProduct(MatrixProduct(Transposed(k_), Pull(*form)), ct));
    for (size_t i = 0; i < change.values.size(); ++i) form->core.values[i] += change.values[i];
    return absl::OkStatus();
  }

  absl::Status StepFeatures(const PsdPair& inputs, StackForm* form) const {
    Matrix64 core(k_.cols, form->core.extents[2]);
    core.values = form->core.values;
    const Matrix64 p = MatrixProduct(k_, core);
    RK_ASSIGN_OR_RETURN(const PsdPair left, LeftPair(p));
    Add(SolvePair(left, inputs, MatrixProduct(Transposed(p), Pull(*form))), &form->features);
    return absl::OkStatus();
  }

  // C = U S V: V in its place, U S into the core.
  static absl::Status Orthonormalise(StackForm* form) {
    RK_ASSIGN_OR_RETURN(SvdFactors f, TruncatedSvd(form->features, form->features.rows));
    for (int64_t i = 0; i < f.u.rows; ++i) {
      for (int64_t k = 0; k < f.u.cols; ++k) f.u(i, k) *= f.s[static_cast<size_t>(k)];
    }
    form->core = ModeProduct(form->core, 2, Transposed(f.u));
    form->features = std::move(f.v);
    return absl::OkStatus();
  }

  const Matrix64& t_;
  const StackMetric& metric_;
  StackForm* form_;
  const int64_t split_;  // the first transposed row
  const Matrix64 k_;     // A x B
};

}  // namespace

Matrix64 StackProduct(const StackForm& form) {
  Tensor64 t = ModeProduct(form.core, 2, Transposed(form.features));
  t = ModeProduct(ModeProduct(t, 1, form.dims), 0, form.heads);
  Matrix64 product(t.extents[0] * t.extents[1], t.extents[2]);
  product.values = std::move(t.values);
  return product;
}

double StackError(const StackMetric& metric, const Matrix64& difference) {
  const auto split = static_cast<int64_t>(metric.row_weights.size());
  const Matrix64 first = Rows(difference, 0, split),
                 second = Rows(difference, split, difference.rows);
  const Matrix64 weighed = MatrixProduct(first, metric.inputs);
  double error = 0;
  for (int64_t i = 0; i < split; ++i) {
    double row = 0;
    for (int64_t j = 0; j < first.cols; ++j) row += first(i, j) * weighed(i, j);
    error += metric.row_weights[i] * row;
  }
  return error + SquaredWeightedNorm(Transposed(second), metric.transposed);
}

absl::Status FitStack(const Matrix64& t, const StackMetric& metric, const StackFitOptions& options,
                      StackForm* form) {
  return Fit(t, metric, form).Run(options);
}

}  // namespace rankine
