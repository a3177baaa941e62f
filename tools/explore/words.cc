#include "tools/explore/words.h"

#include <cctype>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace rankine {
namespace {

bool IsSpace(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

bool IsPlain(const std::string& word) {
  constexpr std::string_view kPlain = "-_.,:/=+@%";
  for (const char c : word) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && kPlain.find(c) == kPlain.npos)
      return false;
  }
  return !word.empty();
}

}  // namespace

absl::StatusOr<std::vector<std::string>> SplitWords(std::string_view line) {
  std::vector<std::string> words;
  bool in_word = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (IsSpace(c)) {
      in_word = false;
      continue;
    }
    if (!in_word) words.emplace_back();
    in_word = true;
    if (c != '\'' && c != '"') {
      words.back() += c;
      continue;
    }
    const size_t end = line.find(c, i + 1);
    if (end == line.npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("a quote (", std::string(1, c), ") does not end in: ", std::string(line)));
    }
    words.back().append(line.substr(i + 1, end - i - 1));
    i = end;
  }
  return words;
}

std::string JoinWords(absl::Span<const std::string> words) {
  std::string line;
  for (const std::string& word : words) {
    if (!line.empty()) line += ' ';
    if (IsPlain(word)) {
      line += word;
    } else {
      absl::StrAppend(&line, "'", absl::StrReplaceAll(word, {{"'", "'\"'\"'"}}), "'");
    }
  }
  return line;
}

}  // namespace rankine
