// Tokens that are found in a text before it is split and merged: control tokens, and words that a
// user added.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"

namespace rankine::tokenizer {

// Of an added token: looking for them takes text bytes x this, at worst.
inline constexpr size_t kMaxAddedTokenBytes = 1024;

struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool special = false;      // a control token: found only when asked
  bool normalized = false;   // looked for in the normalized text, not in the raw one
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space to its left
  bool rstrip = false;
};

// kInvalidArgument names the token when `content` is longer than kMaxAddedTokenBytes.
absl::Status CheckAddedTokenLength(const AddedToken& token, std::string_view content);

// A part of a text: one added token, or plain text (token null).
struct AddedTokenSection {
  const AddedToken* token;
  size_t begin;
  size_t end;
};

// Finds tokens in a text, the leftmost first and of those the longest. Immutable after the last
// Add.
class AddedTokenFinder {
 public:
  // Looks for `content`, which is token->content or its normalized form. `token` must outlive this.
  void Add(const AddedToken* token, std::string_view content);

  // Control tokens are passed over (as text) unless `parse_special`.
  std::vector<AddedTokenSection> Find(std::string_view text, bool parse_special) const;

 private:
  struct Match {
    const AddedToken* token = nullptr;
    size_t length = 0;
  };
  Match LongestAt(std::string_view text) const;

  // A trie; the key is (node << 8 | byte), the root is node 0.
  absl::flat_hash_map<uint64_t, uint32_t> edges_;
  std::vector<const AddedToken*> ends_ = {nullptr};  // by node
};

}  // namespace rankine::tokenizer
