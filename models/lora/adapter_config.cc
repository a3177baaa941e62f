#include "models/lora/adapter_config.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "models/checkpoint/json.h"
#include "models/status_macros.h"

namespace rankine {
namespace {

// What a pattern of more would be is no name of a linear.
constexpr size_t kMaxPattern = 1000;
constexpr double kMaxRank = 1 << 20;

// Keys that must be absent, null, false or empty, and why.
constexpr struct {
  const char* key;
  const char* what;
} kRefused[] = {
    {"use_dora", "DoRA rescales the columns of the merged weight, which is no sum of factors"},
    {"modules_to_save", "modules that were trained whole replace those of the base"},
    {"lora_bias", "biases of lora_B are not supported"},
    {"fan_in_fan_out", "weights stored [in, out] are not supported"},
    {"layer_replication", "replicated layers are not supported"},
    {"target_parameters", "adapters of parameters that are no linear layers are not supported"},
    {"trainable_token_indices", "trained token embeddings are not supported"},
    {"alora_invocation_tokens", "activated LoRA acts on some tokens only"},
    {"use_qalora", "QA-LoRA pools the inputs of lora_A"},
    {"use_bdlora", "block-diagonal LoRA is not supported"},
    {"kasa_config", "KaSA changes the base"},
    {"monteclora_config", "MonteCLoRA is not supported"},
    {"arrow_config", "Arrow routes between several adapters"},
};

bool IsEmpty(const JsonValue& value) {
  if (value.IsBool()) return !*value.Bool();
  if (value.IsArray()) return value.Elements()->empty();
  if (value.IsObject()) return value.Members()->empty();
  return value.IsString() && value.String()->empty();
}

// "none" is the only bias that leaves the base's alone.
absl::Status CheckKeys(const JsonValue& root) {
  RK_ASSIGN_OR_RETURN(const JsonValue type, root.Get("peft_type"));
  RK_ASSIGN_OR_RETURN(const std::string name, type.String());
  if (name != "LORA") {
    return type.Error(absl::StrCat("adapters of type ", absl::CHexEscape(name),
                                   " are not supported; supported: LORA"));
  }
  if (const auto bias = root.Find("bias")) {
    RK_ASSIGN_OR_RETURN(const std::string which, bias->String());
    if (which != "none") {
      return bias->Error(absl::StrCat("trained biases (\"", absl::CHexEscape(which),
                                      "\") are not supported; supported: none"));
    }
  }
  for (const auto& [key, what] : kRefused) {
    const auto value = root.Find(key);
    if (value && !IsEmpty(*value)) return value->Error(absl::StrCat("not supported: ", what));
  }
  return absl::OkStatus();
}

// PiSSA, OLoRA, CorDA and LoftQ subtract the initial factors from the base, so an adapter of theirs
// fits that other base alone.
absl::Status CheckInitialisation(const JsonValue& root) {
  const auto init = root.Find("init_lora_weights");
  if (!init || init->IsBool()) return absl::OkStatus();
  const absl::StatusOr<std::string> name = init->String();
  if (!name.ok()) return name.status();
  for (const char* harmless : {"gaussian", "eva", "orthogonal"}) {
    if (*name == harmless) return absl::OkStatus();
  }
  return init->Error(
      absl::StrCat("an adapter initialised by \"", absl::CHexEscape(*name),
                   "\" belongs to a base that was changed with it; save it converted to plain LoRA "
                   "(PEFT: path_initial_model_for_weight_conversion)"));
}

absl::StatusOr<double> Positive(const JsonValue& value, double max) {
  RK_ASSIGN_OR_RETURN(const double number, value.Number());
  if (!(number > 0) || number > max) {
    return value.Error(absl::StrCat(number, " is not between 0 and ", max));
  }
  return number;
}

absl::StatusOr<std::vector<std::pair<NamePattern, double>>> ReadPatterns(const JsonValue& root,
                                                                         const std::string& key) {
  std::vector<std::pair<NamePattern, double>> patterns;
  const auto object = root.Find(key);
  if (!object) return patterns;
  RK_ASSIGN_OR_RETURN(const auto members, object->Members());
  for (const auto& [expression, value] : members) {
    RK_ASSIGN_OR_RETURN(const double number, Positive(value, 1e30));
    if (expression.size() > kMaxPattern) return value.Error("the expression is too long");
    const auto pattern = NamePattern::Compile(absl::StrCat("(.*\\.)?(", expression, ")"));
    if (!pattern.ok()) return value.Error(std::string(pattern.status().message()));
    patterns.emplace_back(*pattern, number);
  }
  return patterns;
}

}  // namespace

absl::StatusOr<AdapterConfig> AdapterConfig::Read(const std::string& folder) {
  RK_ASSIGN_OR_RETURN(const JsonValue root,
                      JsonValue::ParseFile(absl::StrCat(folder, "/adapter_config.json")));
  RK_RETURN_IF_ERROR(CheckKeys(root));
  RK_RETURN_IF_ERROR(CheckInitialisation(root));
  AdapterConfig config;
  RK_ASSIGN_OR_RETURN(const JsonValue rank, root.Get("r"));
  RK_ASSIGN_OR_RETURN(config.rank_, Positive(rank, kMaxRank));
  RK_ASSIGN_OR_RETURN(const JsonValue alpha, root.Get("lora_alpha"));
  RK_ASSIGN_OR_RETURN(config.alpha_, Positive(alpha, 1e30));
  if (const auto stabilised = root.Find("use_rslora")) {
    RK_ASSIGN_OR_RETURN(config.rank_stabilised_, stabilised->Bool());
  }
  RK_ASSIGN_OR_RETURN(config.rank_patterns_, ReadPatterns(root, "rank_pattern"));
  RK_ASSIGN_OR_RETURN(config.alpha_patterns_, ReadPatterns(root, "alpha_pattern"));
  return config;
}

double AdapterConfig::Match(const Patterns& patterns, const std::string& name, double otherwise) {
  for (const auto& [pattern, number] : patterns) {
    if (pattern.Matches(name)) return number;
  }
  return otherwise;
}

int64_t AdapterConfig::RankOf(const std::string& name) const {
  return static_cast<int64_t>(std::min(Match(rank_patterns_, name, rank_), kMaxRank));
}

double AdapterConfig::ScaleOf(const std::string& name) const {
  const double rank = Match(rank_patterns_, name, rank_);
  return Match(alpha_patterns_, name, alpha_) / (rank_stabilised_ ? std::sqrt(rank) : rank);
}

}  // namespace rankine
