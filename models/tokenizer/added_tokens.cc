#include "models/tokenizer/added_tokens.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "models/tokenizer/unicode.h"
#include "models/tokenizer/utf8.h"

namespace rankine::tokenizer {
namespace {

uint64_t EdgeKey(uint32_t node, char byte) {
  return (static_cast<uint64_t>(node) << 8) | static_cast<uint8_t>(byte);
}

bool StartsWithWord(std::string_view text) {
  return !text.empty() && IsWord(NextUtf8(text).code_point);
}

bool EndsWithWord(std::string_view text) {
  if (text.empty()) return false;
  size_t begin = text.size() - 1;
  while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  return IsWord(NextUtf8(text.substr(begin)).code_point);
}

}  // namespace

absl::Status CheckAddedTokenLength(const AddedToken& token, std::string_view content) {
  if (content.size() <= kMaxAddedTokenBytes) return absl::OkStatus();
  constexpr size_t kShown = 40;
  return absl::InvalidArgumentError(absl::StrCat(
      "added token ", token.id, ", \"", absl::CHexEscape(token.content.substr(0, kShown)),
      "...\", has ", content.size(), " bytes, over the limit of ", kMaxAddedTokenBytes));
}

void AddedTokenFinder::Add(const AddedToken* token, std::string_view content) {
  if (content.empty()) return;
  uint32_t node = 0;
  for (char byte : content) {
    const auto [edge, is_new] =
        edges_.try_emplace(EdgeKey(node, byte), static_cast<uint32_t>(ends_.size()));
    if (is_new) ends_.push_back(nullptr);
    node = edge->second;
  }
  if (ends_[node] == nullptr) ends_[node] = token;
}

AddedTokenFinder::Match AddedTokenFinder::LongestAt(std::string_view text) const {
  Match match;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto edge = edges_.find(EdgeKey(node, text[i]));
    if (edge == edges_.end()) break;
    node = edge->second;
    if (ends_[node] != nullptr) match = {ends_[node], i + 1};
  }
  return match;
}

std::vector<AddedTokenSection> AddedTokenFinder::Find(std::string_view text,
                                                      bool parse_special) const {
  std::vector<AddedTokenSection> sections;
  size_t done = 0;  // where the last section ends
  size_t at = 0;
  while (!edges_.empty() && at < text.size()) {
    const Match match = LongestAt(text.substr(at));
    if (match.token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = at + match.length;
    at = end;  // a match that is passed over below still hides what it overlaps, as in `tokenizers`
    if (match.token->special && !parse_special) continue;
    if (match.token->single_word &&
        (EndsWithWord(text.substr(0, begin)) || StartsWithWord(text.substr(end)))) {
      continue;
    }
    if (match.token->lstrip) {
      const size_t floor = std::min(done, begin);
      begin -= TrailingSpaceBytes(text.substr(floor, begin - floor));
    }
    if (match.token->rstrip) end += LeadingSpaceBytes(text.substr(end));
    if (begin > done) sections.push_back({nullptr, done, begin});
    sections.push_back({match.token, begin, end});
    // `at` stays behind the match, so that a token within the spaces that rstrip took is found too.
    done = end;
  }
  if (done < text.size()) sections.push_back({nullptr, done, text.size()});
  return sections;
}

}  // namespace rankine::tokenizer
