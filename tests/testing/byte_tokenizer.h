// A tokenizer for tests of what lies above: token i < 256 is byte i, then a few control tokens.
#pragma once

#include <memory>

#include "models/tokenizer/tokenizer.h"

namespace rankine::testing {

inline constexpr int32_t kByteBos = 256;      // "<s>", added when add_special
inline constexpr int32_t kByteEos = 257;      // "</s>", never added
inline constexpr int32_t kByteImStart = 258;  // "<|im_start|>"
inline constexpr int32_t kByteImEnd = 259;    // "<|im_end|>"
inline constexpr int32_t kByteVocabSize = 260;

std::unique_ptr<Tokenizer> MakeByteTokenizer();

}  // namespace rankine::testing
