#include "models/checkpoint/convert_plan.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "models/checkpoint/float_convert.h"
#include "models/checkpoint/safetensors.h"
#include "models/encode/encoding_name.h"
#include "models/encode/quantise.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

absl::Status Missing(const std::string& name) {
  return absl::InvalidArgumentError(absl::StrCat("tensor ", name, " is missing"));
}

// What the tensors of a core are called without their roles: "x.W" of "x.W.codes", "x.W" of
// "x.weight", "x.U" of "x.U".
std::string BaseName(const Core& core) {
  absl::string_view name = core.tensors[0].tensor;
  if (absl::ConsumeSuffix(&name, ".weight")) return absl::StrCat(name, ".W");
  absl::ConsumeSuffix(&name, absl::StrCat(".", core.tensors[0].role));
  return std::string(name);
}

}  // namespace

ConvertPlan::ConvertPlan(const Checkpoint& source, const ConvertOptions& options)
    : source_(source), options_(options), rule_used_(options.map.size()) {
  for (const FactoredMatrix& matrix : source.factored()) factored_.emplace(matrix.name, &matrix);
}

absl::Status ConvertPlan::Make() {
  const ModelLayout layout = LayoutOf(source_.config());
  for (const LinearSpec& table : layout.embeddings) {
    RK_RETURN_IF_ERROR(AddLinear(table, /*is_embedding=*/true));
  }
  for (const LinearSpec& linear : layout.linears) {
    RK_RETURN_IF_ERROR(AddLinear(linear, /*is_embedding=*/false));
  }
  for (const VectorSpec& vector : layout.vectors) {
    if (vector.optional && source_.Find(vector.name) == nullptr) continue;
    RK_RETURN_IF_ERROR(AddVector(vector.name));
  }
  return absl::OkStatus();
}

void ConvertPlan::Report(ConvertReport* report) const {
  if (options_.map.empty()) return;
  report->unmatched_linears = unmatched_;
  for (size_t i = 0; i < rule_used_.size(); ++i) {
    if (!rule_used_[i]) report->unused_rules.push_back(options_.map[i].expression);
  }
}

// Null: nothing says so.
const EncodingTarget* ConvertPlan::TargetOf(const std::string& linear, bool is_embedding) {
  if (const int rule = FirstRule(options_.map, linear); rule >= 0) {
    rule_used_[rule] = true;
    return &options_.map[rule].target;
  }
  const bool covers_embedding = options_.encode && options_.encode->keep;
  if (options_.encode && (!is_embedding || covers_embedding)) return &*options_.encode;
  if (!is_embedding) unmatched_.push_back(linear);
  return nullptr;
}

absl::Status ConvertPlan::AddFloats(const std::string& name, DType dtype) {
  if (!added_.emplace(name, Core{}).second) return absl::OkStatus();
  const TensorInfo* tensor = source_.Find(name);
  if (tensor == nullptr) return Missing(name);
  jobs_.push_back({.kind = ConvertJob::Kind::kFloats,
                   .specs = {{name, dtype, tensor->shape}},
                   .source = tensor});
  return absl::OkStatus();
}

absl::Status ConvertPlan::AddRaw(const std::string& name) {
  if (name.empty() || !added_.emplace(name, Core{}).second) return absl::OkStatus();
  const TensorInfo* tensor = source_.Find(name);
  if (tensor == nullptr) return Missing(name);
  TensorSpec spec{.name = name, .shape = tensor->shape};
  if (!FindSafetensorsDType(tensor->stored_type, &spec.dtype)) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", name, " is ", tensor->stored_type, ", which cannot be copied"));
  }
  jobs_.push_back({.kind = ConvertJob::Kind::kRaw, .specs = {spec}, .source = tensor});
  return absl::OkStatus();
}

absl::Status ConvertPlan::AddLinear(const LinearSpec& linear, bool is_embedding) {
  if (linear.optional && factored_.count(linear.name) == 0 &&
      source_.Find(linear.weight()) == nullptr) {
    return absl::OkStatus();
  }
  const EncodingTarget* target = TargetOf(linear.name, is_embedding);
  if (const auto found = factored_.find(linear.name); found != factored_.end()) {
    return AddMatrix(*found->second, target);
  }
  const TensorInfo* weight = source_.Find(linear.weight());
  if (weight == nullptr) return Missing(linear.weight());
  const std::string bias = linear.has_bias ? linear.bias() : "";
  const bool blocks = weight->natural_encoding.has_value();
  if (target != nullptr && target->keep && blocks) {
    return AddMatrix(BlocksMatrix(linear.name, *weight, bias), target);
  }
  if (target != nullptr && !target->keep && !target->encoding.IsFloat()) {
    const Encoding stored = Encoding::Float(weight->natural_dtype);
    return AddMatrix(
        blocks ? BlocksMatrix(linear.name, *weight, bias)
               : DenseMatrix(linear.name, linear.out, linear.in, stored, weight->name, bias),
        target);
  }
  const bool told = target != nullptr && !target->keep;
  RK_RETURN_IF_ERROR(AddFloats(weight->name, told ? target->encoding.dtype : options_.dtype));
  return bias.empty() ? absl::OkStatus() : AddVector(bias);
}

absl::Status ConvertPlan::AddMatrix(FactoredMatrix matrix, const EncodingTarget* target) {
  for (Term& term : matrix.terms) {
    for (Core& core : term.cores) RK_RETURN_IF_ERROR(AddCore(target, matrix, &core));
  }
  for (const auto* transforms : {&matrix.input_transforms, &matrix.output_transforms}) {
    for (const Transform& transform : *transforms) {
      RK_RETURN_IF_ERROR(AddRaw(transform.tensor));
      RK_RETURN_IF_ERROR(AddRaw(transform.block_tensor));
    }
  }
  if (!matrix.bias_tensor.empty()) RK_RETURN_IF_ERROR(AddVector(matrix.bias_tensor));
  matrices_.push_back(std::move(matrix));
  return absl::OkStatus();
}

absl::Status ConvertPlan::AddCore(const EncodingTarget* target, const FactoredMatrix& matrix,
                                  Core* core) {
  const bool told = target != nullptr && !target->keep && core->legs.size() > 1;
  const Core from = *core;
  if (told) {
    core->encoding = target->encoding;
  } else if (from.encoding.IsFloat()) {
    core->encoding = Encoding::Float(core->legs.size() == 1 ? DType::kF32 : options_.dtype);
  }
  const int64_t cols = core->StoredShape().back();
  if (const absl::Status status = CheckCanEncode(core->encoding, cols); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat("matrix ", matrix.name, ": core ", core->name,
                                                    ": ", status.message()));
  }
  if (from.encoding.IsFloat() && core->encoding.IsFloat()) {
    return AddFloats(from.TensorOf("values"), core->encoding.dtype);
  }
  NameTensors(BaseName(from), core);
  const auto [shared, is_new] = added_.emplace(from.tensors[0].tensor, *core);
  if (!is_new) {
    if (shared->second.encoding == core->encoding) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("matrix ", matrix.name, ": core ", core->name,
                     " is shared with another matrix and would "
                     "be ",
                     EncodingName(core->encoding), " here, ", EncodingName(shared->second.encoding),
                     " there; give all matrices that share it the same encoding"));
  }
  jobs_.push_back({.kind = ConvertJob::Kind::kCore,
                   .specs = SpecsOf(*core),
                   .core = {from, *core},
                   .matrix = matrices_.size()});
  return absl::OkStatus();
}

}  // namespace rankine
