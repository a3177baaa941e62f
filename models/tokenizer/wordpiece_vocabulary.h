// vocab.txt, as BERT models from before tokenizer.json have it: one token a line, the id its
// number.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "models/tokenizer/bpe_spec.h"
#include "models/tokenizer/tokenizer_config.h"

namespace rankine::tokenizer {

// The tokenizer that transformers makes of the text of a vocab.txt and a tokenizer_config.json.
// kInvalidArgument names what is wrong: a token that [CLS], [SEP] or [UNK] needs is missing.
absl::StatusOr<BpeTokenizerSpec> SpecFromVocabularyText(std::string_view text,
                                                        const TokenizerConfig& config);

}  // namespace rankine::tokenizer
