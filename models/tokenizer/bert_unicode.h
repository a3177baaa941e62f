// The classes of characters that BERT's normalizer and pre-tokenizer ask for, as `tokenizers` has
// them: by the categories of Unicode 8.
#pragma once

namespace rankine::tokenizer {

// Control, format and private use (Cc, Cf, Co), white space excepted.
bool IsBertControl(char32_t code_point);
// Nonspacing marks (Mn): accents.
bool IsBertMark(char32_t code_point);
// Punctuation (P) and ASCII's symbols.
bool IsBertPunctuation(char32_t code_point);

}  // namespace rankine::tokenizer
