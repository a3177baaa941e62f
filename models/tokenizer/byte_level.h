// The byte <-> character table of GPT-2: printable Latin-1 bytes stand for themselves, the other 68
// for U+0100... so that a vocabulary of arbitrary bytes can be written as text without spaces or
// control characters.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace rankine::tokenizer {

// Each byte of `bytes` as its character.
std::string BytesToCharacters(std::string_view bytes);

// The inverse; empty when a character stands for no byte.
std::optional<std::string> CharactersToBytes(std::string_view characters);

}  // namespace rankine::tokenizer
