// The table of architectures. The next one is a file pair and a line here.
#include <array>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "models/architecture.h"
#include "models/bert.h"
#include "models/llama.h"
#include "models/llama_layout.h"
#include "models/loader.h"

namespace rankine {
namespace {

constexpr std::array kArchitectures = {
    Architecture{"llama", &ParseLlamaConfig, &ValidateLlamaConfig, &SerializeLlamaConfig,
                 &LlamaLayout, nullptr, &LoadLlama},
    Architecture{"bert", &ParseBertConfig, &ValidateBertConfig, &SerializeBertConfig, &BertLayout,
                 &CanonicalBertName, &LoadBert},
};

}  // namespace

const Architecture* FindArchitecture(const std::string& name) {
  for (const Architecture& a : kArchitectures) {
    if (name == a.name) return &a;
  }
  return nullptr;
}

std::string SupportedArchitectures() {
  std::string names;
  for (const Architecture& a : kArchitectures)
    absl::StrAppend(&names, names.empty() ? "" : ", ", a.name);
  return names;
}

ModelLayout LayoutOf(const ModelConfig& config) {
  const Architecture* architecture = FindArchitecture(config.architecture);
  RK_CHECK(architecture != nullptr);
  return architecture->layout(config);
}

absl::StatusOr<std::unique_ptr<FactoredModel>> LoadModel(const Checkpoint& checkpoint,
                                                         Device& device,
                                                         const LoadOptions& options) {
  const std::string& name = checkpoint.config().architecture;
  const Architecture* architecture = FindArchitecture(name);
  if (architecture != nullptr) return architecture->load(checkpoint, device, options);
  return absl::InvalidArgumentError(absl::StrCat(
      "architecture '", name, "' is not supported; supported: ", SupportedArchitectures()));
}

DType ResidentDType(const LoadOptions& options, const TensorInfo& tensor) {
  if (options.weight_dtype) return *options.weight_dtype;
  const bool is_block =
      tensor.stored_type != "F32" && tensor.stored_type != "F16" && tensor.stored_type != "BF16";
  return is_block ? DType::kBF16 : tensor.natural_dtype;
}

DType ComputeDType(const LoadOptions& options, DType weight_dtype) {
  if (options.compute && *options.compute != DType::kI8) return *options.compute;
  return weight_dtype == DType::kBF16 ? DType::kBF16 : DType::kF32;
}

bool QuantizesActivations(const LoadOptions& options) {
  return options.compute.value_or(DType::kI8) == DType::kI8;
}

}  // namespace rankine
