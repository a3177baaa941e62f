// The table of architectures. The next one is a file pair and a line here.
#include <array>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "models/llama.h"
#include "models/loader.h"

namespace rankine {
namespace {

struct Architecture {
  const char* name;
  absl::StatusOr<std::unique_ptr<FactoredModel>> (*load)(const Checkpoint&, Device&,
                                                         const LoadOptions&);
};

constexpr std::array kArchitectures = {
    Architecture{"llama", &LoadLlama},
};

}  // namespace

absl::StatusOr<std::unique_ptr<FactoredModel>> LoadModel(const Checkpoint& checkpoint,
                                                         Device& device,
                                                         const LoadOptions& options) {
  std::string known;
  for (const Architecture& a : kArchitectures) {
    if (checkpoint.config().architecture == a.name) return a.load(checkpoint, device, options);
    absl::StrAppend(&known, known.empty() ? "" : ", ", a.name);
  }
  return absl::InvalidArgumentError(absl::StrCat("architecture '", checkpoint.config().architecture,
                                                 "' is not supported; supported: ", known));
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
