// tokenizer_config.json: what transformers keeps beside the tokenizer itself.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/tokenizer/added_tokens.h"
#include "models/tokenizer/gguf_vocabulary.h"

namespace rankine::tokenizer {

struct TokenizerConfig {
  std::string bos_token;  // empty = none
  std::string eos_token;
  std::string unknown_token;
  std::string padding_token;
  std::string cls_token;  // BERT's, as are those below
  std::string sep_token;
  std::string mask_token;
  std::optional<bool> do_lower_case;
  std::optional<bool> strip_accents;
  std::optional<bool> tokenize_chinese_chars;
  std::optional<bool> add_bos;
  std::optional<bool> add_eos;
  std::vector<AddedToken> added_tokens;      // added_tokens_decoder
  std::optional<std::string> chat_template;  // the one without a name, or the one named "default"
};

// An empty config when the folder has no such file; tokens of added_tokens.json are added where
// they are missing.
absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::string& folder);

// The text of a tokenizer_config.json.
std::string TokenizerConfigText(const GgufVocabulary& vocabulary);

}  // namespace rankine::tokenizer
