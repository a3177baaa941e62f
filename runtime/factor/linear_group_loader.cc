// Loading of a LinearGroup: lays out the packed cores that the planner's choices ask for, then
// reads rows of the checkpoint and packs them, in parallel over runs of rows, without a second copy
// of any matrix.
#include <atomic>
#include <cmath>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/mutex.h"
#include "kernels/cpu/thread_pool.h"
#include "runtime/factor/linear_group.h"

namespace rankine {
namespace {

// Rows read and packed by a thread at a time: whole blocks of 16, about a megabyte.
constexpr int64_t kRunBytes = 1 << 20;

// Fills rows [row_begin, row_end) of a matrix into `out` [rows, cols], as the core's dtype.
using ReadRun = std::function<absl::Status(int64_t row_begin, int64_t row_end, void* out)>;

struct PackJob {
  PackedCore core;
  int64_t row_offset = 0;  // in the core
  int64_t rows = 0;
  ReadRun read;
};

// The stored U, S, V of a matrix (S may be absent).
struct Factors {
  const Core* u;
  const Core* s;
  const Core* v;
};

Factors FactorsOf(const FactoredMatrix& m) {
  const std::vector<Core>& cores = m.terms[0].cores;
  return {&cores.front(), cores.size() == 3 ? &cores[1] : nullptr, &cores.back()};
}

// Rounds to `dtype` and stores at out[index]; the value that is now there.
float StoreRounded(float value, DType dtype, void* out, int64_t index) {
  switch (dtype) {
    case DType::kF16:
      return ToFloat(static_cast<F16*>(out)[index] = ToF16(value));
    case DType::kBF16:
      return ToFloat(static_cast<BF16*>(out)[index] = ToBF16(value));
    default:
      return static_cast<float*>(out)[index] = value;
  }
}

int64_t RankOf(const FactoredMatrix& m) { return m.terms[0].cores.front().legs[1].extent; }

}  // namespace

class LinearGroupLoader {
 public:
  LinearGroupLoader(Device& device, absl::Span<const FactoredMatrix> matrices,
                    const LinearGroupOptions& options, const TensorSource& source)
      : device_(device), options_(options), source_(source) {
    group_.matrices_.assign(matrices.begin(), matrices.end());
  }

  absl::StatusOr<LinearGroup> Load();

 private:
  absl::Status LayOut();
  absl::Status AddDense(int index, PlanStep* first);
  absl::Status AddStackedV(PlanStep* first);
  absl::Status AddU(int index, PlanStep* second);
  absl::StatusOr<int> AddCore(int64_t n, int64_t k);
  // A padded f32 vector filled by `fill`; its index.
  absl::StatusOr<int> AddVector(int64_t size, const std::function<absl::Status(float*)>& fill);
  absl::StatusOr<int> AddBias(const FactoredMatrix& m);
  // S (ones where there is none) and V of a matrix.
  struct ScaledV {
    std::vector<float> s;  // [rank]
    std::vector<float> v;  // [rank, in_features]
  };
  absl::StatusOr<ScaledV> ReadSAndV(const FactoredMatrix& m) const;
  // W = U diag(S) V, rows [begin, end), rounded once.
  absl::Status Materialise(const FactoredMatrix& m, const ScaledV& sv, int64_t begin, int64_t end,
                           void* out) const;
  absl::Status RunJobs();

  bool IsFactored(int index) const {
    return group_.choices_[index].choice().form == ExecutableForm::kTwoFactors;
  }

  Device& device_;
  const LinearGroupOptions& options_;
  const TensorSource& source_;
  LinearGroup group_;
  std::vector<PackJob> jobs_;
  std::vector<int64_t> z_columns_;  // of each factored matrix in the intermediate
};

absl::StatusOr<int> LinearGroupLoader::AddCore(int64_t n, int64_t k) {
  const int64_t block = PackedBlockBytes(options_.weight_dtype, k);
  auto buffer = Buffer::Allocate(device_, PackedBytes(options_.weight_dtype, n, k));
  if (!buffer.ok()) return buffer.status();
  group_.cores_.push_back({.data = buffer->data(),
                           .dtype = options_.weight_dtype,
                           .n = n,
                           .k = k,
                           .block_stride = block});
  group_.buffers_.push_back(*std::move(buffer));
  return static_cast<int>(group_.cores_.size()) - 1;
}

absl::StatusOr<int> LinearGroupLoader::AddVector(int64_t size,
                                                 const std::function<absl::Status(float*)>& fill) {
  auto buffer =
      Buffer::Allocate(device_, RoundUp(size, kBlockRows) * static_cast<int64_t>(sizeof(float)));
  if (!buffer.ok()) return buffer.status();
  std::vector<float> host(size);
  if (absl::Status status = fill(host.data()); !status.ok()) return status;
  device_.CopyToDevice(buffer->data(), host.data(), size * static_cast<int64_t>(sizeof(float)));
  group_.vectors_.push_back(buffer->As<float>());
  group_.buffers_.push_back(*std::move(buffer));
  return static_cast<int>(group_.vectors_.size()) - 1;
}

absl::StatusOr<int> LinearGroupLoader::AddBias(const FactoredMatrix& m) {
  if (m.bias_tensor.empty()) return -1;
  return AddVector(m.out_features, [&](float* out) {
    return source_.ReadRows(m.bias_tensor, 0, 1, m.out_features, DType::kF32, out);
  });
}

absl::Status LinearGroupLoader::Materialise(const FactoredMatrix& m, const ScaledV& sv,
                                            int64_t begin, int64_t end, void* out) const {
  const int64_t rank = RankOf(m), rows = end - begin;
  std::vector<float> u(rows * rank);
  if (auto status = source_.ReadRows(FactorsOf(m).u->TensorOf("values"), begin, end, rank,
                                     DType::kF32, u.data());
      !status.ok()) {
    return status;
  }
  std::vector<double> row(m.in_features);
  for (int64_t i = 0; i < rows; ++i) {
    std::fill(row.begin(), row.end(), 0.0);
    for (int64_t r = 0; r < rank; ++r) {
      const double us = static_cast<double>(u[i * rank + r]) * sv.s[r];
      for (int64_t j = 0; j < m.in_features; ++j) row[j] += us * sv.v[r * m.in_features + j];
    }
    for (int64_t j = 0; j < m.in_features; ++j) {
      const float stored = StoreRounded(static_cast<float>(row[j]), options_.weight_dtype, out,
                                        i * m.in_features + j);
      if (!std::isfinite(stored)) {
        return absl::InvalidArgumentError(
            absl::StrCat(m.name, ": the product of its factors at row ", begin + i, ", column ", j,
                         ", ", row[j], ", does not fit in ", Name(options_.weight_dtype).data()));
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<LinearGroupLoader::ScaledV> LinearGroupLoader::ReadSAndV(
    const FactoredMatrix& m) const {
  const Factors f = FactorsOf(m);
  const int64_t rank = RankOf(m);
  ScaledV sv{.s = std::vector<float>(rank, 1.0f), .v = std::vector<float>(rank * m.in_features)};
  if (auto status = source_.ReadRows(f.v->TensorOf("values"), 0, rank, m.in_features, DType::kF32,
                                     sv.v.data());
      !status.ok()) {
    return status;
  }
  if (f.s == nullptr) return sv;
  if (auto status = source_.ReadRows(f.s->TensorOf("values"), 0, 1, rank, DType::kF32, sv.s.data());
      !status.ok()) {
    return status;
  }
  return sv;
}

absl::Status LinearGroupLoader::AddDense(int index, PlanStep* first) {
  const FactoredMatrix& m = group_.matrices_[index];
  auto core = AddCore(m.out_features, m.in_features);
  if (!core.ok()) return core.status();
  auto bias = AddBias(m);
  if (!bias.ok()) return bias.status();
  group_.dense_cores_[index] = *core;
  first->products.push_back(
      {.core = *core,
       .bias = *bias,
       .y_column = group_.output_columns_[index],
       .n = m.out_features,
       .k = m.in_features,
       .weight_bytes = PackedBytes(options_.weight_dtype, m.out_features, m.in_features)});
  PackJob job{.core = group_.cores_[*core], .rows = m.out_features};
  if (m.terms[0].cores.size() == 1) {
    const std::string tensor = m.terms[0].cores[0].TensorOf("values");
    job.read = [this, tensor, &m](int64_t begin, int64_t end, void* out) {
      return source_.ReadRows(tensor, begin, end, m.in_features, options_.weight_dtype, out);
    };
  } else {
    auto sv = ReadSAndV(m);
    if (!sv.ok()) return sv.status();
    // Shared by the runs of rows: std::function copies what it holds.
    auto shared = std::make_shared<const ScaledV>(*std::move(sv));
    job.read = [this, shared, &m](int64_t begin, int64_t end, void* out) {
      return Materialise(m, *shared, begin, end, out);
    };
  }
  jobs_.push_back(std::move(job));
  return absl::OkStatus();
}

// One product z = (x V^T) * S for the V of every factored matrix of the group, each starting at a
// block of 16.
absl::Status LinearGroupLoader::AddStackedV(PlanStep* first) {
  int64_t columns = 0;
  for (size_t i = 0; i < group_.matrices_.size(); ++i) {
    z_columns_.push_back(columns);
    if (IsFactored(static_cast<int>(i)))
      columns += RoundUp(RankOf(group_.matrices_[i]), kBlockRows);
  }
  group_.plan_.intermediate_columns = columns;
  if (columns == 0) return absl::OkStatus();
  const int64_t in_features = group_.matrices_[0].in_features;
  auto core = AddCore(columns, in_features);
  if (!core.ok()) return core.status();
  auto scale = AddVector(columns, [&](float* out) {
    for (size_t i = 0; i < group_.matrices_.size(); ++i) {
      if (!IsFactored(static_cast<int>(i))) continue;
      const FactoredMatrix& m = group_.matrices_[i];
      float* s = out + z_columns_[i];
      const Factors f = FactorsOf(m);
      if (f.s == nullptr) {
        std::fill(s, s + RankOf(m), 1.0f);
      } else if (auto status =
                     source_.ReadRows(f.s->TensorOf("values"), 0, 1, RankOf(m), DType::kF32, s);
                 !status.ok()) {
        return status;
      }
    }
    return absl::OkStatus();
  });
  if (!scale.ok()) return scale.status();
  for (size_t i = 0; i < group_.matrices_.size(); ++i) {
    if (!IsFactored(static_cast<int>(i))) continue;
    const std::string tensor = FactorsOf(group_.matrices_[i]).v->TensorOf("values");
    jobs_.push_back({.core = group_.cores_[*core],
                     .row_offset = z_columns_[i],
                     .rows = RankOf(group_.matrices_[i]),
                     .read = [this, tensor, in_features](int64_t begin, int64_t end, void* out) {
                       return source_.ReadRows(tensor, begin, end, in_features,
                                               options_.weight_dtype, out);
                     }});
  }
  first->products.push_back(
      {.core = *core,
       .scale = *scale,
       .y = Slot::kIntermediate,
       .n = columns,
       .k = in_features,
       .weight_bytes = PackedBytes(options_.weight_dtype, columns, in_features)});
  return absl::OkStatus();
}

absl::Status LinearGroupLoader::AddU(int index, PlanStep* second) {
  const FactoredMatrix& m = group_.matrices_[index];
  const int64_t rank = RankOf(m);
  auto core = AddCore(m.out_features, rank);
  if (!core.ok()) return core.status();
  auto bias = AddBias(m);
  if (!bias.ok()) return bias.status();
  const std::string tensor = FactorsOf(m).u->TensorOf("values");
  jobs_.push_back({.core = group_.cores_[*core],
                   .rows = m.out_features,
                   .read = [this, tensor, rank](int64_t begin, int64_t end, void* out) {
                     return source_.ReadRows(tensor, begin, end, rank, options_.weight_dtype, out);
                   }});
  second->products.push_back(
      {.core = *core,
       .bias = *bias,
       .x = Slot::kIntermediate,
       .x_column = z_columns_[index],
       .y_column = group_.output_columns_[index],
       .n = m.out_features,
       .k = rank,
       .weight_bytes = PackedBytes(options_.weight_dtype, m.out_features, rank)});
  return absl::OkStatus();
}

absl::Status LinearGroupLoader::LayOut() {
  ContractionPlan& plan = group_.plan_;
  plan.compute = options_.compute;
  plan.input_columns = group_.matrices_[0].in_features;
  for (size_t i = 0; i < group_.matrices_.size(); ++i) {
    group_.output_columns_.push_back(plan.output_columns);
    plan.output_columns += RoundUp(group_.matrices_[i].out_features, kBlockRows);
    plan.expressions.push_back(group_.choices_[i].choice().order.expression);
  }
  group_.dense_cores_.assign(group_.matrices_.size(), -1);
  PlanStep first, second;
  if (auto status = AddStackedV(&first); !status.ok()) return status;
  for (size_t i = 0; i < group_.matrices_.size(); ++i) {
    const int index = static_cast<int>(i);
    auto status = IsFactored(index) ? AddU(index, &second) : AddDense(index, &first);
    if (!status.ok()) return status;
  }
  plan.steps.push_back(std::move(first));
  if (!second.products.empty()) plan.steps.push_back(std::move(second));
  return absl::OkStatus();
}

absl::Status LinearGroupLoader::RunJobs() {
  struct Run {
    const PackJob* job;
    int64_t begin, end;
  };
  std::vector<Run> runs;
  for (const PackJob& job : jobs_) {
    const int64_t row_bytes = job.core.k * static_cast<int64_t>(SizeOf(job.core.dtype));
    const int64_t step = std::max(kBlockRows, kRunBytes / row_bytes / kBlockRows * kBlockRows);
    for (int64_t b = 0; b < job.rows; b += step)
      runs.push_back({&job, b, std::min(job.rows, b + step)});
  }
  Mutex mutex;
  absl::Status first_error;
  std::atomic<bool> failed{false};
  WorkQueue queue(static_cast<int64_t>(runs.size()), 1);
  auto work = [&](int) {
    std::vector<char> scratch;
    int64_t begin, end;
    while (!failed && queue.Next(&begin, &end)) {
      const Run& run = runs[begin];
      const PackedCore& core = run.job->core;
      const int64_t row_bytes = core.k * static_cast<int64_t>(SizeOf(core.dtype));
      scratch.resize((run.end - run.begin) * row_bytes);
      if (absl::Status status = run.job->read(run.begin, run.end, scratch.data()); !status.ok()) {
        MutexLock lock(mutex);
        if (first_error.ok()) first_error = status;
        failed = true;
        return;
      }
      device_.ops().pack_rows({.source = {.data = scratch.data(),
                                          .dtype = core.dtype,
                                          .rows = run.end - run.begin,
                                          .cols = core.k,
                                          .stride = core.k},
                               .row_offset = run.job->row_offset + run.begin,
                               .core = core});
    }
  };
  if (ThreadPool* pool = device_.stream().pool; pool != nullptr) {
    pool->Run(work);
  } else {
    work(0);
  }
  return first_error;
}

absl::StatusOr<LinearGroup> LinearGroupLoader::Load() {
  RK_CHECK(!group_.matrices_.empty() &&
           group_.matrices_.size() <= static_cast<size_t>(LinearGroup::kMaxMatrices));
  for (const FactoredMatrix& m : group_.matrices_) {
    RK_CHECK(m.in_features == group_.matrices_[0].in_features);
  }
  // The planner sees the encodings that memory will hold, not those of the file.
  std::vector<FactoredMatrix> resident = group_.matrices_;
  for (FactoredMatrix& m : resident) {
    for (Term& term : m.terms) {
      for (Core& core : term.cores) {
        if (core.encoding.IsFloat() && core.legs.size() > 1)
          core.encoding.dtype = options_.weight_dtype;
      }
    }
  }
  auto choices = PlanGroup(
      resident, {.compute = options_.compute, .extra_weight_bytes = options_.extra_weight_bytes});
  if (!choices.ok()) return choices.status();
  group_.choices_ = *std::move(choices);
  if (auto status = LayOut(); !status.ok()) return status;
  if (auto status = RunJobs(); !status.ok()) return status;
  return std::move(group_);
}

absl::StatusOr<LinearGroup> LinearGroup::Load(Device& device,
                                              absl::Span<const FactoredMatrix> matrices,
                                              const LinearGroupOptions& options,
                                              const TensorSource& source) {
  return LinearGroupLoader(device, matrices, options, source).Load();
}

}  // namespace rankine
