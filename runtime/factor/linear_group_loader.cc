// Loading of a LinearGroup: plans it, allocates the packed cores that the layout asks for, then
// reads rows of the checkpoint and packs them, in parallel over runs of rows, without a second copy
// of any matrix (but of cores that are folded).
#include <algorithm>
#include <atomic>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "kernels/api/hadamard.h"
#include "kernels/base/check.h"
#include "kernels/base/mutex.h"
#include "kernels/cpu/thread_pool.h"
#include "runtime/factor/core_reader.h"
#include "runtime/factor/linear_group.h"
#include "runtime/factor/step_key.h"
#include "runtime/factor/vector_reader.h"

namespace rankine {
namespace {

// Rows read and packed by a thread at a time: whole blocks of 16, about a megabyte.
constexpr int64_t kRunBytes = 1 << 20;

struct PackJob {
  PackedCore core;
  int64_t rows = 0;
  std::unique_ptr<CoreReader> reader;
};

// Says all that a packed core depends on.
std::string KeyOf(absl::Span<const FactoredMatrix> matrices, const CoreRecipe& recipe) {
  std::string key = absl::StrCat(recipe.n, " ", recipe.k, " ", recipe.block_encoded);
  const auto add = [&](const std::vector<int>& list) {
    absl::StrAppend(&key, ":");
    for (const int i : list) absl::StrAppend(&key, i, ",");
  };
  for (const CorePart& part : recipe.parts) {
    absl::StrAppend(&key, ";", part.row_offset);
    const FactoredMatrix& m = matrices[part.matrix];
    const std::string shared = StepKey(m, m.terms[part.term], part.step);
    if (!shared.empty()) {
      absl::StrAppend(&key, " ", shared);
      continue;
    }
    absl::StrAppend(&key, " ", part.matrix, " ", part.term);
    for (const auto* list :
         {&part.step.cores, &part.step.front_legs, &part.step.back_legs, &part.step.summed_legs})
      add(*list);
  }
  return key;
}

// The planner sees the encodings that memory will hold, not those of the file.
std::vector<FactoredMatrix> Resident(absl::Span<const FactoredMatrix> matrices, DType dtype) {
  std::vector<FactoredMatrix> resident(matrices.begin(), matrices.end());
  for (FactoredMatrix& m : resident) {
    for (Term& term : m.terms) {
      for (Core& core : term.cores) {
        if (core.encoding.IsFloat() && core.legs.size() > 1) core.encoding.dtype = dtype;
      }
    }
  }
  return resident;
}

PlannerOptions PlannerOptionsOf(const LinearGroupOptions& options) {
  return {.profile = options.profile,
          .compute = options.compute,
          .int8_blocks = options.int8_blocks,
          .weight_dtype = options.weight_dtype,
          .extra_weight_bytes = options.extra_weight_bytes};
}

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
  absl::StatusOr<GroupPlan> ChoosePlan();
  absl::Status AddForm(const std::vector<std::string>& orders, int64_t extra_bytes);
  // The index of the packed core; that of another form where it is the same.
  absl::StatusOr<int> AddCore(const CoreRecipe& recipe);
  absl::Status AddVectors(const GroupLayout& layout);
  absl::Status SetBlockSizes(ContractionPlan* plan, std::vector<VectorRecipe>* vectors) const;
  // A copy on the device, rounded up to 16 elements.
  absl::StatusOr<void*> Upload(const void* host, int64_t count, int64_t element_bytes);
  absl::Status RunJobs();

  Device& device_;
  const LinearGroupOptions& options_;
  const TensorSource& source_;
  LinearGroup group_;
  std::vector<PackJob> jobs_;
  std::map<std::string, int> cores_;  // by what they hold
};

absl::StatusOr<int> LinearGroupLoader::AddCore(const CoreRecipe& recipe) {
  const auto [known, added] =
      cores_.try_emplace(KeyOf(group_.matrices_, recipe), static_cast<int>(group_.cores_.size()));
  if (!added) return known->second;
  const DType dtype = options_.weight_dtype;
  PackedCore core{.dtype = recipe.block_encoded ? DType::kU8 : dtype,
                  .encoding = recipe.encoding,
                  .n = recipe.n,
                  .k = recipe.k};
  core.block_stride = recipe.block_encoded ? PackedBlockBytes(recipe.encoding, recipe.k)
                                           : PackedBlockBytes(dtype, recipe.k);
  auto buffer = Buffer::Allocate(device_, core.num_blocks() * core.block_stride);
  if (!buffer.ok()) return buffer.status();
  core.data = buffer->data();
  group_.cores_.push_back(core);
  group_.buffers_.push_back(*std::move(buffer));
  for (const CorePart& part : recipe.parts) {
    auto reader = MakeCoreReader(group_.matrices_[part.matrix], part, dtype, source_);
    if (!reader.ok()) return reader.status();
    jobs_.push_back({.core = core, .rows = part.step.n, .reader = *std::move(reader)});
  }
  return known->second;
}

absl::StatusOr<void*> LinearGroupLoader::Upload(const void* host, int64_t count,
                                                int64_t element_bytes) {
  auto buffer = Buffer::Allocate(device_, RoundUp(count, kBlockRows) * element_bytes);
  if (!buffer.ok()) return buffer.status();
  device_.CopyToDevice(buffer->data(), host, count * element_bytes);
  group_.buffers_.push_back(*std::move(buffer));
  return group_.buffers_.back().data();
}

absl::Status LinearGroupLoader::AddVectors(const GroupLayout& layout) {
  for (const VectorRecipe& recipe : layout.vectors) {
    auto values = ReadVector(group_.matrices_, recipe, source_);
    if (!values.ok()) return values.status();
    auto data = Upload(values->data(), recipe.size, sizeof(float));
    if (!data.ok()) return data.status();
    group_.vectors_.push_back(static_cast<const float*>(*data));
  }
  for (const IndexRecipe& recipe : layout.index_lists) {
    auto indices = ReadIndices(recipe, source_);
    if (!indices.ok()) return indices.status();
    auto data = Upload(indices->data(), recipe.size, sizeof(int32_t));
    if (!data.ok()) return data.status();
    group_.index_lists_.push_back(static_cast<const int32_t*>(*data));
  }
  return absl::OkStatus();
}

// The extent of a Hadamard transform's block is that of its tensor.
absl::Status LinearGroupLoader::SetBlockSizes(ContractionPlan* plan,
                                              std::vector<VectorRecipe>* vectors) const {
  for (PlanStep& step : plan->steps) {
    PlanElementwise& e = step.elementwise;
    if (step.kind != StepKind::kHadamard) continue;
    if (e.block >= 0) {
      VectorRecipe& recipe = (*vectors)[e.block];
      auto rows = source_.NumRows(recipe.parts[0].tensor);
      if (!rows.ok()) return rows.status();
      if (*rows < 1 || *rows > kMaxHadamardBlock) {
        return absl::UnimplementedError(absl::StrCat(
            "the block ", absl::CHexEscape(recipe.parts[0].tensor), " of a Hadamard transform has ",
            *rows, " rows; at most ", kMaxHadamardBlock, " are supported"));
      }
      e.block_size = *rows;
      recipe.size = recipe.parts[0].size = *rows * *rows;
      recipe.parts[0].rows = *rows;
    }
    const int64_t powers = e.columns / e.block_size;
    if (powers * e.block_size != e.columns || (powers & (powers - 1)) != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          group_.name(), ": a Hadamard transform of ", e.columns, " features with a block of ",
          e.block_size, " needs a power of two of them"));
    }
  }
  return absl::OkStatus();
}

absl::Status LinearGroupLoader::RunJobs() {
  struct Run {
    const PackJob* job;
    int64_t begin, end;
  };
  std::vector<Run> runs;
  for (const PackJob& job : jobs_) {
    const int64_t row_bytes = std::max<int64_t>(1, job.core.block_stride / kBlockRows);
    const int64_t step = std::max(kBlockRows, kRunBytes / row_bytes / kBlockRows * kBlockRows);
    for (int64_t b = 0; b < job.rows; b += step)
      runs.push_back({&job, b, std::min(job.rows, b + step)});
  }
  Mutex mutex;
  absl::Status first_error;
  std::atomic<bool> failed{false};
  WorkQueue queue(static_cast<int64_t>(runs.size()), 1);
  auto work = [&](int) {
    int64_t begin, end;
    while (!failed && queue.Next(&begin, &end)) {
      const Run& run = runs[begin];
      absl::Status status =
          run.job->reader->PackRows(device_.ops(), run.begin, run.end, run.job->core);
      if (status.ok()) continue;
      MutexLock lock(mutex);
      if (first_error.ok()) first_error = status;
      failed = true;
    }
  };
  if (ThreadPool* pool = device_.stream().pool; pool != nullptr) {
    pool->Run(work);
  } else {
    work(0);
  }
  return first_error;
}

absl::StatusOr<GroupPlan> LinearGroupLoader::ChoosePlan() {
  if (!options_.orders.empty()) return GroupPlan{.forms = {options_.orders}};
  if (!options_.plan.forms.empty()) return options_.plan;
  auto plans = LinearGroup::Plans(group_.matrices_, options_);
  if (!plans.ok()) return plans.status();
  auto chosen = SpendExtraBytes({&*plans, 1}, options_.extra_weight_bytes);
  if (!chosen.ok()) return chosen.status();
  return std::move((*chosen)[0]);
}

// Everything that one stored form needs; `extra_bytes` are the plan's.
absl::Status LinearGroupLoader::AddForm(const std::vector<std::string>& orders,
                                        int64_t extra_bytes) {
  const std::vector<FactoredMatrix> resident = Resident(group_.matrices_, options_.weight_dtype);
  PlannerOptions planner = PlannerOptionsOf(options_);
  planner.orders = orders;
  // Of a plan that was chosen, what it was given; orders to be measured need leave.
  if (options_.orders.empty()) planner.extra_weight_bytes = extra_bytes;
  auto choices = PlanGroup(resident, planner);
  if (!choices.ok()) return choices.status();
  auto layout = LayOutGroup(resident, *choices, planner);
  if (!layout.ok()) return layout.status();
  if (auto status = SetBlockSizes(&layout->plan, &layout->vectors); !status.ok()) return status;
  std::vector<int> cores;
  for (const CoreRecipe& recipe : layout->cores) {
    auto core = AddCore(recipe);
    if (!core.ok()) return core.status();
    cores.push_back(*core);
  }
  const int first_vector = static_cast<int>(group_.vectors_.size());
  const int first_list = static_cast<int>(group_.index_lists_.size());
  if (auto status = AddVectors(*layout); !status.ok()) return status;
  for (PlanStep& step : layout->plan.steps) {
    for (PlanProduct& p : step.products) {
      p.core = cores[p.core];
      if (p.scale >= 0) p.scale += first_vector;
      if (p.bias >= 0) p.bias += first_vector;
    }
    PlanElementwise& e = step.elementwise;
    if (e.vector >= 0) e.vector += step.kind == StepKind::kPermute ? first_list : first_vector;
    if (e.block >= 0) e.block += first_vector;
    if (e.bias >= 0) e.bias += first_vector;
  }
  if (group_.plans_.empty()) {
    group_.choices_ = *std::move(choices);
    group_.output_columns_ = std::move(layout->output_columns);
    group_.dense_cores_ = std::move(layout->dense_cores);
    for (DenseCore& dense : group_.dense_cores_)
      dense.core = dense.core < 0 ? -1 : cores[dense.core];
  }
  group_.needs_dense_ |= layout->plan.needs_dense;
  group_.needs_quantized_ |= layout->plan.needs_quantized;
  group_.plans_.push_back(std::move(layout->plan));
  return absl::OkStatus();
}

absl::StatusOr<LinearGroup> LinearGroupLoader::Load() {
  RK_CHECK(!group_.matrices_.empty() &&
           group_.matrices_.size() <= static_cast<size_t>(LinearGroup::kMaxMatrices));
  for (const FactoredMatrix& m : group_.matrices_) {
    RK_CHECK(m.in_features == group_.matrices_[0].in_features);
  }
  group_.weight_dtype_ = options_.weight_dtype;
  auto plan = ChoosePlan();
  if (!plan.ok()) return plan.status();
  for (const std::vector<std::string>& orders : plan->forms) {
    if (auto status = AddForm(orders, plan->extra_bytes); !status.ok()) return status;
  }
  group_.plan_of_bucket_ = plan->form_of_bucket;
  if (auto status = RunJobs(); !status.ok()) return status;
  return std::move(group_);
}

absl::StatusOr<std::vector<GroupPlan>> LinearGroup::Plans(absl::Span<const FactoredMatrix> matrices,
                                                          const LinearGroupOptions& options) {
  return GroupPlans(Resident(matrices, options.weight_dtype), PlannerOptionsOf(options),
                    options.mode);
}

absl::StatusOr<LinearGroup> LinearGroup::Load(Device& device,
                                              absl::Span<const FactoredMatrix> matrices,
                                              const LinearGroupOptions& options,
                                              const TensorSource& source) {
  return LinearGroupLoader(device, matrices, options, source).Load();
}

}  // namespace rankine
