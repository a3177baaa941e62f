#include "models/tokenizer/tokenizer_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "models/files/json_text.h"
#include "models/files/text_file.h"
#include "models/tokenizer/bpe_spec.h"
#include "models/tokenizer/json_value.h"

namespace rankine::tokenizer {
namespace {

// A token is written as its text or as an object with its flags.
std::string TokenText(const JsonValue& value) {
  if (value.IsNull()) return std::string();
  if (value.IsObject()) return value["content"].String();
  return value.String();
}

std::optional<bool> OptionalBool(const JsonValue& value) {
  if (value.IsNull()) return std::nullopt;
  return value.Bool(false);
}

int32_t CheckedId(int64_t id, const JsonValue& where) {
  if (id >= 0 && id < kMaxVocabulary) return static_cast<int32_t>(id);
  where.Fail(absl::StrCat("the id ", id, " is out of range"));
  return 0;
}

void ReadAddedTokens(const JsonValue& value, TokenizerConfig* config) {
  if (value.IsNull()) return;
  if (!value.IsObject()) {
    value.Fail("should be an object");
    return;
  }
  for (const auto& [key, unused] : value.raw()->items()) {
    const JsonValue item = value[key.c_str()];
    int64_t id = -1;
    if (!absl::SimpleAtoi(key, &id)) item.Fail("its key should be an id");
    AddedToken token;
    token.id = CheckedId(id, item);
    token.content = item["content"].String();
    token.special = item["special"].Bool(false);
    token.single_word = item["single_word"].Bool(false);
    token.lstrip = item["lstrip"].Bool(false);
    token.rstrip = item["rstrip"].Bool(false);
    token.normalized = item["normalized"].Bool(false);
    config->added_tokens.push_back(std::move(token));
  }
}

// A string, or a list of {"name", "template"}.
void ReadChatTemplate(const JsonValue& value, TokenizerConfig* config) {
  if (value.IsNull()) return;
  if (!value.IsArray()) {
    config->chat_template = value.String();
    return;
  }
  for (const JsonValue& item : value.Elements()) {
    if (item["name"].String() == "default") config->chat_template = item["template"].String();
  }
}

// added_tokens.json: {"text": id}.
absl::Status ReadAddedTokensFile(const std::string& folder, TokenizerConfig* config) {
  absl::StatusOr<std::string> text = ReadTextFile(folder + "/added_tokens.json");
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  if (!text.ok()) return text.status();
  absl::StatusOr<nlohmann::json> document = ParseJson(*text, "added_tokens.json");
  if (!document.ok()) return document.status();
  absl::Status status;
  const JsonValue root(&*document, "added_tokens.json", &status);
  if (!root.IsObject()) return absl::InvalidArgumentError("added_tokens.json: should be an object");
  for (const auto& [content, unused] : document->items()) {
    const bool known = std::any_of(
        config->added_tokens.begin(), config->added_tokens.end(),
        [&content = content](const AddedToken& token) { return token.content == content; });
    if (known) continue;
    AddedToken token;
    token.content = content;
    token.id = CheckedId(root[content.c_str()].Int(), root);
    config->added_tokens.push_back(std::move(token));
  }
  return status;
}

}  // namespace

absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::string& folder) {
  TokenizerConfig config;
  absl::StatusOr<std::string> text = ReadTextFile(folder + "/tokenizer_config.json");
  if (!text.ok() && !absl::IsNotFound(text.status())) return text.status();
  if (text.ok()) {
    absl::StatusOr<nlohmann::json> document = ParseJson(*text, "tokenizer_config.json");
    if (!document.ok()) return document.status();
    absl::Status status;
    const JsonValue root(&*document, "", &status);
    config.bos_token = TokenText(root["bos_token"]);
    config.eos_token = TokenText(root["eos_token"]);
    config.unknown_token = TokenText(root["unk_token"]);
    config.padding_token = TokenText(root["pad_token"]);
    config.cls_token = TokenText(root["cls_token"]);
    config.sep_token = TokenText(root["sep_token"]);
    config.mask_token = TokenText(root["mask_token"]);
    config.do_lower_case = OptionalBool(root["do_lower_case"]);
    config.strip_accents = OptionalBool(root["strip_accents"]);
    config.tokenize_chinese_chars = OptionalBool(root["tokenize_chinese_chars"]);
    config.add_bos = OptionalBool(root["add_bos_token"]);
    config.add_eos = OptionalBool(root["add_eos_token"]);
    ReadAddedTokens(root["added_tokens_decoder"], &config);
    ReadChatTemplate(root["chat_template"], &config);
    if (!status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat("tokenizer_config.json: ", std::string(status.message())));
    }
  }
  if (absl::Status status = ReadAddedTokensFile(folder, &config); !status.ok()) return status;
  return config;
}

std::string TokenizerConfigText(const GgufVocabulary& vocabulary) {
  nlohmann::ordered_json config;
  const auto put = [&](const char* key, int32_t id) {
    if (id < 0 || static_cast<size_t>(id) >= vocabulary.tokens.size()) return;
    config[key] = vocabulary.tokens[static_cast<size_t>(id)];
  };
  config["add_bos_token"] = vocabulary.add_bos;
  config["add_eos_token"] = vocabulary.add_eos;
  put("bos_token", vocabulary.bos_id);
  put("eos_token", vocabulary.eos_id);
  put("unk_token", vocabulary.unknown_id);
  put("pad_token", vocabulary.padding_id);
  if (!vocabulary.chat_template.empty()) config["chat_template"] = vocabulary.chat_template;
  config["clean_up_tokenization_spaces"] = false;
  const bool is_bpe = vocabulary.model == "gpt2";
  config["tokenizer_class"] = is_bpe ? "PreTrainedTokenizerFast" : "LlamaTokenizer";
  return DumpJson(config, 2) + "\n";
}

}  // namespace rankine::tokenizer
