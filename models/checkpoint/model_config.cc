#include "models/checkpoint/model_config.h"

#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "kernels/api/attention.h"
#include "kernels/base/check.h"
#include "models/architecture.h"
#include "models/checkpoint/config_fields.h"
#include "models/files/json_text.h"
#include "models/status_macros.h"

namespace rankine {

absl::Status ValidateModelConfig(const ModelConfig& c, const std::string& source) {
  RK_RETURN_IF_ERROR(CheckRange(c.vocab_size, kMaxVocab, "vocab_size", source));
  RK_RETURN_IF_ERROR(CheckRange(c.hidden_size, kMaxFeatures, "hidden_size", source));
  RK_RETURN_IF_ERROR(CheckRange(c.intermediate_size, kMaxFeatures, "intermediate_size", source));
  RK_RETURN_IF_ERROR(CheckRange(c.num_layers, kMaxLayers, "num_hidden_layers", source));
  RK_RETURN_IF_ERROR(CheckRange(c.num_heads, kMaxHeads, "num_attention_heads", source));
  RK_RETURN_IF_ERROR(CheckRange(c.num_kv_heads, kMaxHeads, "num_key_value_heads", source));
  RK_RETURN_IF_ERROR(CheckRange(c.head_dim, kMaxHeadDim, "head_dim", source));
  RK_RETURN_IF_ERROR(CheckRange(c.max_position, kMaxPosition, "max_position_embeddings", source));
  if (c.num_heads % c.num_kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": num_attention_heads ", c.num_heads,
                                                   " is not a multiple of num_key_value_heads ",
                                                   c.num_kv_heads));
  }
  const Architecture* architecture = FindArchitecture(c.architecture);
  RK_CHECK(architecture != nullptr);
  return architecture->validate_config(c, source);
}

absl::StatusOr<ModelConfig> ParseModelConfig(const JsonValue& root) {
  if (!root.IsObject()) return root.Error("must be a JSON object");
  RK_ASSIGN_OR_RETURN(const JsonValue model_type, root.Get("model_type"));
  RK_ASSIGN_OR_RETURN(const std::string type, model_type.String());
  const Architecture* architecture = FindArchitecture(type);
  if (architecture == nullptr) {
    return model_type.Error(
        absl::StrCat("architecture \"", absl::CHexEscape(type),
                     "\" is not supported; supported: ", SupportedArchitectures()));
  }
  if (root.Find("quantization_config")) {
    return root.Error("quantization_config: quantised Hugging Face folders are not supported");
  }
  RK_ASSIGN_OR_RETURN(ModelConfig c, architecture->parse_config(root));
  RK_ASSIGN_OR_RETURN(c.random_weights, BoolOr(root, "rankine_random_weights", false));
  RK_RETURN_IF_ERROR(ValidateModelConfig(c, root.source()));
  std::vector<int32_t> bos;
  RK_RETURN_IF_ERROR(AddTokenIds(root, "bos_token_id", c.vocab_size, &bos));
  if (!bos.empty()) c.bos_id = bos[0];
  RK_RETURN_IF_ERROR(AddTokenIds(root, "eos_token_id", c.vocab_size, &c.eos_ids));
  return c;
}

absl::Status MergeGenerationConfig(const JsonValue& root, ModelConfig* config) {
  if (!root.IsObject()) return root.Error("must be a JSON object");
  return AddTokenIds(root, "eos_token_id", config->vocab_size, &config->eos_ids);
}

std::string SerializeModelConfig(const ModelConfig& c, DType dtype) {
  const Architecture* architecture = FindArchitecture(c.architecture);
  RK_CHECK(architecture != nullptr);
  return architecture->serialize_config(c, dtype);
}

std::string SerializeGenerationConfig(const ModelConfig& config) {
  nlohmann::ordered_json root;
  WriteTokenIds(config, &root);
  return DumpJson(root, 2) + "\n";
}

}  // namespace rankine
