#include "tools/compress/layer_factorizer.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <iterator>
#include <numeric>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/cpu/thread_pool.h"
#include "models/status_macros.h"
#include "tools/compress/dense_product.h"

namespace rankine {
namespace {

double Root(double part, double whole) { return whole > 0 ? std::sqrt(part / whole) : 0; }

// E|A x + b|^2; an empty b is zero.
double MeanSquaredOutput(const Matrix64& a, const std::vector<double>& b, const Moments& moments) {
  double result = SquaredWeightedNorm(a, moments.second);
  for (size_t i = 0; i < b.size(); ++i) {
    const double* row = a.Row(static_cast<int64_t>(i));
    const double mean = std::inner_product(row, row + a.cols, moments.mean.begin(), 0.0);
    result += b[i] * (2 * mean + b[i]);
  }
  return std::max(0.0, result);
}

// A linear that was read, and what became of it.
struct Linear {
  const LinearInfo* info = nullptr;
  Matrix64 weight;
  std::vector<double> bias;
  const Moments* moments = nullptr;
};

}  // namespace

class LayerFactorization::Run {
 public:
  Run(const FactorJob& job, const LayerInput& input)
      : job_(job),
        input_(input),
        results_(input.linears.size()),
        parts_(Parts()),
        statuses_(parts_.size()) {}

  size_t num_parts() const { return parts_.size(); }
  void RunPart(size_t part) { statuses_[part] = FactorGroup(parts_[part]); }

  absl::StatusOr<LayerPart> Collect() {
    for (const absl::Status& status : statuses_) RK_RETURN_IF_ERROR(status);
    return Joined();
  }

 private:
  struct Result {
    LayerReport report;
    Factorization factors;
  };

  int64_t SizeOf(size_t i) const {
    return input_.linears[i]->out_features() * input_.linears[i]->in_features();
  }

  // What is factored together; the largest go first, so that no thread is left with one at the end.
  std::vector<std::vector<size_t>> Parts() const {
    std::vector<LinearShape> shapes;
    std::vector<std::vector<size_t>> groups;
    for (size_t i = 0; i < input_.linears.size(); ++i) {
      const LinearInfo& l = *input_.linears[i];
      shapes.push_back({l.name, l.out_features(), l.in_features()});
      groups.push_back({i});
    }
    if (job_.method->join != nullptr) groups = job_.method->join(shapes, *job_.settings);
    const auto size = [&](const std::vector<size_t>& group) {
      int64_t total = 0;
      for (size_t i : group) total += SizeOf(i);
      return total;
    };
    std::stable_sort(groups.begin(), groups.end(),
                     [&](const auto& a, const auto& b) { return size(a) > size(b); });
    return groups;
  }

  absl::Status FactorGroup(const std::vector<size_t>& group) {
    std::vector<size_t> indices;
    for (size_t i : group) {
      RK_RETURN_IF_ERROR(Begin(i));
      if (WantsFactors(i)) indices.push_back(i);
    }
    if (indices.empty()) return absl::OkStatus();
    std::vector<Linear> linears(indices.size());
    std::vector<MethodInput> inputs;
    for (size_t k = 0; k < indices.size(); ++k) {
      linears[k].info = input_.linears[indices[k]];
      RK_RETURN_IF_ERROR(Read(&linears[k]));
      inputs.push_back(InputOf(linears[k]));
    }
    auto factors = RunMethod(*job_.method, inputs);
    if (!factors.ok()) {
      return absl::Status(factors.status().code(),
                          absl::StrCat(inputs[0].name, ": ", factors.status().message()));
    }
    RK_CHECK(factors->size() == indices.size());
    return Judge(indices, linears, *std::move(factors));
  }

  // Where the budget holds the linear as it is, it stays so.
  bool WantsFactors(size_t i) const {
    const auto found = input_.budgets.find(input_.linears[i]->name);
    if (found == input_.budgets.end()) return false;
    const Budget& b = found->second;
    const LayerReport& dense = results_[i].report;
    const bool holds_parameters =
        b.parameters == 0 || b.parameters >= static_cast<double>(dense.dense_parameters);
    const bool holds_bits = b.bits == 0 || b.bits >= static_cast<double>(dense.kept_bits);
    return b.rank != 0 || !holds_parameters || !holds_bits;
  }

  // The report of a linear that stays dense.
  absl::Status Begin(size_t i) {
    const LinearInfo& linear = *input_.linears[i];
    const bool calibrated = input_.statistics != nullptr;
    if (calibrated && input_.statistics->Find(linear.name) == nullptr) {
      return absl::InternalError(
          absl::StrCat("calibration has not seen the input of ", linear.name));
    }
    LayerReport& report = results_[i].report;
    report = {.name = linear.name, .dense_parameters = SizeOf(i), .kept_parameters = SizeOf(i)};
    report.kept_bits = DenseBits(linear, job_.block_dtype);
    if (calibrated) report.weighted_error = 0;
    return absl::OkStatus();
  }

  absl::Status Read(Linear* linear) const {
    const LinearInfo& info = *linear->info;
    RK_ASSIGN_OR_RETURN(linear->weight, ReadWeight(*job_.checkpoint, info));
    RK_ASSIGN_OR_RETURN(linear->bias, ReadBias(*job_.checkpoint, info));
    if (input_.statistics != nullptr) linear->moments = input_.statistics->Find(info.name);
    return absl::OkStatus();
  }

  MethodInput InputOf(const Linear& linear) const {
    const std::string& name = linear.info->name;
    MethodInput input{
        .name = name,
        .weight = &linear.weight,
        .moments = linear.moments,
        .bias = linear.bias.empty() ? nullptr : &linear.bias,
        .bias_tensor = linear.info->bias_tensor,
        .heads = HeadsOf(job_.checkpoint->config(), name, linear.weight.rows, linear.weight.cols),
        .budget = input_.budgets.at(name),
        .encoding = job_.encoding,
        .settings = job_.settings};
    if (input_.prefix_statistics != nullptr) {
      input.prefix_moments = input_.prefix_statistics->Find(name);
    }
    if (input_.fisher != nullptr) input.fisher = &input_.fisher->at(name);
    return input;
  }

  // Errors of what was made, from the tensors as stored.
  absl::Status Judge(const std::vector<size_t>& indices, const std::vector<Linear>& linears,
                     std::vector<Factorization> factors) {
    std::vector<StoredTensor> tensors;  // of all, as matrices may share cores
    for (Factorization& f : factors) {
      std::copy(f.tensors.begin(), f.tensors.end(), std::back_inserter(tensors));
    }
    const StoredTensorSource source(tensors);
    for (size_t k = 0; k < factors.size(); ++k) {
      Factorization& f = factors[k];
      if (f.matrix.terms.empty()) continue;
      Result& result = results_[indices[k]];
      RK_ASSIGN_OR_RETURN(const Matrix64 product, DenseProduct(f.matrix, source));
      const StoredSize size = SizeOfStored({&f.matrix, 1}, f.tensors);
      result.report.rank = f.rank;
      result.report.kept_parameters = size.parameters;
      result.report.kept_bits = size.bits;
      Describe(linears[k], product, &f, &result.report);
      result.factors = std::move(f);
    }
    return absl::OkStatus();
  }

  void Describe(const Linear& linear, const Matrix64& product, Factorization* f,
                LayerReport* report) const {
    const Matrix64& w = linear.weight;
    const Matrix64 delta = Difference(w, product);
    report->relative_error = Root(SquaredNorm(delta), SquaredNorm(w));
    f->matrix.provenance = {.method = std::string(job_.method->name),
                            .keep = job_.keep,
                            .calibration = job_.text_digest,
                            .calibration_tokens = job_.text_tokens,
                            .relative_error = report->relative_error};
    if (linear.moments == nullptr) return;
    std::vector<double> change = f->bias;
    for (size_t i = 0; i < std::min(change.size(), linear.bias.size()); ++i) {
      change[i] -= linear.bias[i];
    }
    report->weighted_error = WeightedError(w, delta, linear.bias, change, *linear.moments);
    f->matrix.provenance.weighted_error = *report->weighted_error;
  }

  LayerPart Joined() {
    LayerPart part;
    for (Result& result : results_) {
      part.reports.push_back(std::move(result.report));
      if (result.factors.matrix.terms.empty()) continue;
      part.matrices.push_back(std::move(result.factors.matrix));
      std::move(result.factors.tensors.begin(), result.factors.tensors.end(),
                std::back_inserter(part.tensors));
    }
    return part;
  }

  const FactorJob& job_;
  const LayerInput& input_;
  std::vector<Result> results_;                   // of input_.linears
  const std::vector<std::vector<size_t>> parts_;  // indices of linears
  std::vector<absl::Status> statuses_;            // of the parts
};

double WeightedError(const Matrix64& w, const Matrix64& delta, const std::vector<double>& bias,
                     const std::vector<double>& bias_change, const Moments& moments) {
  // y - y' = delta x - bias_change
  std::vector<double> offset;
  for (const double b : bias_change) offset.push_back(-b);
  return Root(MeanSquaredOutput(delta, offset, moments), MeanSquaredOutput(w, bias, moments));
}

LayerFactorization::LayerFactorization(const FactorJob& job, const LayerInput& input)
    : run_(std::make_unique<Run>(job, input)) {}
LayerFactorization::~LayerFactorization() = default;

size_t LayerFactorization::num_parts() const { return run_->num_parts(); }
void LayerFactorization::RunPart(size_t part) { run_->RunPart(part); }
absl::StatusOr<LayerPart> LayerFactorization::Collect() { return run_->Collect(); }

absl::StatusOr<LayerPart> FactorLayer(const FactorJob& job, const LayerInput& input) {
  LayerFactorization layer(job, input);
  std::atomic<size_t> next{0};
  auto work = [&] {
    for (size_t i = next++; i < layer.num_parts(); i = next++) layer.RunPart(i);
  };
  const size_t threads = job.threads > 0 ? job.threads : DefaultNumThreads();
  std::vector<std::thread> helpers;
  for (size_t t = 1; t < std::min(threads, layer.num_parts()); ++t) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  return layer.Collect();
}

}  // namespace rankine
