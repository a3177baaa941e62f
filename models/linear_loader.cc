#include "models/linear_loader.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/math.h"

namespace rankine {

absl::Status LinearLoader::Load(absl::FunctionRef<absl::Status()> load) {
  if (options_.extra_weight_bytes > 0 || options_.plan != PlanMode::kStable) {
    planning_ = true;
    const absl::Status status = load();
    planning_ = false;
    if (!status.ok()) return status;
    auto plans = SpendExtraBytes(possible_plans_, options_.extra_weight_bytes);
    if (!plans.ok()) return plans.status();
    plans_ = *std::move(plans);
  }
  return load();
}

absl::StatusOr<Buffer> LinearLoader::Vector(const std::string& name, int64_t size) {
  if (planning_) return Buffer();
  auto buffer =
      Buffer::Allocate(device_, RoundUp(size, kColumnPad) * static_cast<int64_t>(sizeof(float)));
  if (!buffer.ok()) return buffer;
  std::vector<float> host(size);
  if (auto status = source_.ReadRows(name, 0, 1, size, DType::kF32, host.data()); !status.ok())
    return status;
  device_.CopyToDevice(buffer->data(), host.data(), size * static_cast<int64_t>(sizeof(float)));
  return buffer;
}

// The factored description of a linear where there is one, else its dense tensor.
absl::StatusOr<FactoredMatrix> LinearLoader::Matrix(const std::string& name, int64_t out,
                                                    int64_t in) {
  for (const FactoredMatrix& m : checkpoint_.factored()) {
    if (m.name == name) return m;
  }
  const TensorInfo* weight = checkpoint_.Find(name + ".weight");
  if (weight == nullptr)
    return absl::InvalidArgumentError(absl::StrCat("tensor ", name, ".weight is missing"));
  if (weight->shape != std::vector<int64_t>{out, in}) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor ", weight->name, " does not have the shape [", out, ", ", in, "] of config.json"));
  }
  const bool has_bias = checkpoint_.Find(name + ".bias") != nullptr;
  const std::string bias = has_bias ? name + ".bias" : "";
  if (weight->natural_encoding && !options_.weight_dtype) return BlocksMatrix(name, *weight, bias);
  return DenseMatrix(name, out, in, Encoding::Float(weight->natural_dtype), weight->name, bias);
}

LinearGroupOptions LinearLoader::GroupOptions(const std::vector<FactoredMatrix>& matrices) const {
  // A group is held in one dtype: that of its cores, or f32, which holds any mixture.
  std::optional<DType> common;
  for (const FactoredMatrix& matrix : matrices) {
    for (const Term& term : matrix.terms) {
      for (const Core& core : term.cores) {
        const TensorInfo* tensor = checkpoint_.Find(core.TensorOf("values"));
        if (core.legs.size() < 2 || tensor == nullptr) continue;
        const DType own = ResidentDType(options_, *tensor);
        common = common.value_or(own) == own ? own : DType::kF32;
      }
    }
  }
  const DType dtype = common.value_or(DType::kBF16);
  return {.weight_dtype = dtype,
          .compute = ComputeDType(options_, dtype),
          .int8_blocks = QuantizesActivations(options_),
          .extra_weight_bytes = options_.extra_weight_bytes,
          .mode = options_.plan,
          .profile = options_.profile};
}

absl::Status LinearLoader::Group(const std::vector<std::pair<std::string, int64_t>>& linears,
                                 int64_t in, LinearGroup* group) {
  std::vector<FactoredMatrix> matrices;
  for (const auto& [name, out] : linears) {
    auto matrix = Matrix(name, out, in);
    if (!matrix.ok()) return matrix.status();
    matrices.push_back(*std::move(matrix));
  }
  LinearGroupOptions options = GroupOptions(matrices);
  if (planning_) {
    auto plans = LinearGroup::Plans(matrices, options);
    if (!plans.ok()) return plans.status();
    possible_plans_.push_back(*std::move(plans));
    return absl::OkStatus();
  }
  if (!plans_.empty()) options.plan = plans_[next_plan_++];
  auto loaded = LinearGroup::Load(device_, matrices, options, source_);
  if (!loaded.ok()) return loaded.status();
  *group = *std::move(loaded);
  return absl::OkStatus();
}

absl::Status LinearLoader::Table(const std::string& name, int64_t rows, int64_t cols,
                                 LinearGroup* group) {
  if (auto status = Group({{name, rows}}, cols, group); !status.ok()) return status;
  if (planning_ || group->dense_core(0).data != nullptr) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat(name, ": a factored embedding is not supported; factor other linears"));
}

}  // namespace rankine
