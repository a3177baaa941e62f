// A tokenizer over a sentencepiece model.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/tokenizer/added_tokens.h"
#include "models/tokenizer/tokenizer.h"

namespace rankine::tokenizer {

struct SentencePieceOptions {
  // Tokens that the model's file does not know, and flags of those that it does.
  std::vector<AddedToken> added_tokens;
  bool add_bos = true;
  bool add_eos = false;
};

// `serialized` is a ModelProto. Each stretch of text between control tokens gets the model's space
// prefix, as Llama-2's tokenizer.json and llama.cpp do.
absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeSentencePieceTokenizer(
    const std::string& serialized, SentencePieceOptions options);

}  // namespace rankine::tokenizer
