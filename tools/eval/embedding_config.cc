#include "tools/eval/embedding_config.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "models/checkpoint/json.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// Absent when the folder has no such file.
absl::StatusOr<std::optional<JsonValue>> ReadOptional(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return std::optional<JsonValue>();
  RK_ASSIGN_OR_RETURN(JsonValue value, JsonValue::ParseFile(path));
  return std::optional<JsonValue>(std::move(value));
}

absl::Status ReadPooling(const JsonValue& root, EmbeddingConfig* config) {
  constexpr absl::string_view kPrefix = "pooling_mode_";
  if (!root.IsObject()) return root.Error("must be a JSON object");
  RK_ASSIGN_OR_RETURN(const auto members, root.Members());
  int modes = 0;
  for (const auto& [key, value] : members) {
    if (!absl::StartsWith(key, kPrefix)) continue;
    RK_ASSIGN_OR_RETURN(const bool set, value.Bool());
    if (!set) continue;
    ++modes;
    if (key == "pooling_mode_mean_tokens") {
      config->pooling = Pooling::kMean;
    } else if (key == "pooling_mode_cls_token") {
      config->pooling = Pooling::kCls;
    } else {
      return absl::UnimplementedError(absl::StrCat(root.source(), ": ", absl::CHexEscape(key),
                                                   " is not supported; supported: mean, cls"));
    }
  }
  if (modes == 1) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat(root.source(), ": ", modes, " pooling modes at once; exactly one is supported"));
}

absl::Status ReadModules(const JsonValue& root, EmbeddingConfig* config) {
  RK_ASSIGN_OR_RETURN(const std::vector<JsonValue> modules, root.Elements());
  for (const JsonValue& module : modules) {
    RK_ASSIGN_OR_RETURN(const JsonValue type, module.Get("type"));
    RK_ASSIGN_OR_RETURN(const std::string name, type.String());
    if (absl::EndsWith(name, ".Normalize")) {
      config->normalize = true;
    } else if (!absl::EndsWith(name, ".Transformer") && !absl::EndsWith(name, ".Pooling")) {
      return absl::UnimplementedError(
          absl::StrCat(root.source(), ": the module ", absl::CHexEscape(name),
                       " is not supported; supported: Transformer, Pooling, Normalize"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Pooling> ParsePooling(const std::string& name) {
  if (name == "mean") return Pooling::kMean;
  if (name == "cls") return Pooling::kCls;
  return absl::InvalidArgumentError(absl::StrCat("unknown pooling '", name, "'; use mean or cls"));
}

std::string PoolingName(Pooling pooling) { return pooling == Pooling::kMean ? "mean" : "cls"; }

absl::StatusOr<EmbeddingConfig> ReadEmbeddingConfig(const Checkpoint& checkpoint) {
  EmbeddingConfig config{.max_tokens = checkpoint.config().max_position};
  const std::string& folder = checkpoint.folder();
  if (folder.empty()) return config;
  RK_ASSIGN_OR_RETURN(const auto modules, ReadOptional(folder + "/modules.json"));
  if (modules) RK_RETURN_IF_ERROR(ReadModules(*modules, &config));
  RK_ASSIGN_OR_RETURN(const auto pooling, ReadOptional(folder + "/1_Pooling/config.json"));
  if (pooling) RK_RETURN_IF_ERROR(ReadPooling(*pooling, &config));
  RK_ASSIGN_OR_RETURN(const auto sentence, ReadOptional(folder + "/sentence_bert_config.json"));
  if (!sentence) return config;
  const std::optional<JsonValue> longest = sentence->Find("max_seq_length");
  if (!longest) return config;
  RK_ASSIGN_OR_RETURN(const int64_t max_tokens, longest->Int());
  if (max_tokens < 3) return longest->Error("must be at least 3");
  config.max_tokens = std::min(config.max_tokens, max_tokens);
  return config;
}

}  // namespace rankine
