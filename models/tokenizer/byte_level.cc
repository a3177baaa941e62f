#include "models/tokenizer/byte_level.h"

#include <array>
#include <cstdint>

#include "models/tokenizer/utf8.h"

namespace rankine::tokenizer {
namespace {

constexpr int kNumMoved = 68;  // bytes that are not printable: 0..0x20, 0x7F..0xA0, 0xAD

struct Tables {
  std::array<char32_t, 256> character;
  std::array<int16_t, 256 + kNumMoved> byte;  // -1 where no byte has that character
};

constexpr bool IsPrintable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
}

constexpr Tables MakeTables() {
  Tables tables{};
  for (int16_t& byte : tables.byte) byte = -1;
  char32_t next_moved = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const char32_t character = IsPrintable(byte) ? static_cast<char32_t>(byte) : next_moved++;
    tables.character[byte] = character;
    tables.byte[character] = static_cast<int16_t>(byte);
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

}  // namespace

std::string BytesToCharacters(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (char byte : bytes) AppendUtf8(kTables.character[static_cast<uint8_t>(byte)], &out);
  return out;
}

std::optional<std::string> CharactersToBytes(std::string_view characters) {
  std::string out;
  while (!characters.empty()) {
    const Utf8Step step = NextUtf8(characters);
    if (step.code_point >= kTables.byte.size() || kTables.byte[step.code_point] < 0) {
      return std::nullopt;
    }
    out.push_back(static_cast<char>(kTables.byte[step.code_point]));
    characters.remove_prefix(step.num_bytes);
  }
  return out;
}

}  // namespace rankine::tokenizer
