// Byte-pair encoding: the characters of a piece are merged, always the pair that was learnt first
// and of those the leftmost, until no pair is left. A priority queue over a linked list makes that
// O(n log n), so that one long word (a text without a space) does not take quadratic time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"

namespace rankine::tokenizer {

struct BpeSpec {
  std::vector<std::pair<std::string, int32_t>> vocabulary;  // piece, id
  std::vector<std::pair<std::string, std::string>> merges;  // best first
  std::string unknown_token;                                // empty = none
  bool fuse_unknown = false;   // a run of unknown characters is one unknown token
  bool byte_fallback = false;  // an unknown character becomes its bytes' tokens, <0x00> to <0xFF>
  bool ignore_merges = false;  // a piece that is itself a token is that token
};

// Immutable and thread-safe.
class Bpe {
 public:
  // kInvalidArgument names the token or merge that is wrong (ids twice or out of range, merges of
  // unknown tokens). Tokens in `hidden` (control tokens) never come out of Encode, even where a
  // piece spells them.
  static absl::StatusOr<Bpe> Create(const BpeSpec& spec, const std::vector<int32_t>& hidden);

  // Appends the tokens of one piece; adds the number of queue operations to `*queue_operations`.
  void Encode(std::string_view piece, std::vector<int32_t>* ids, int64_t* queue_operations) const;

 private:
  struct Merge {
    int32_t rank;
    int32_t result;
  };
  struct Symbol {
    int32_t id;
    int32_t previous;
    int32_t next;
    bool alive;
  };

  Bpe() = default;
  std::vector<Symbol> InitialSymbols(std::string_view piece) const;
  bool AppendBytes(std::string_view character, std::vector<int32_t>* ids) const;
  const Merge* FindMerge(int32_t left, int32_t right) const;
  void MergeAll(std::vector<Symbol>* symbols, int64_t* queue_operations) const;

  absl::flat_hash_map<std::string, int32_t> ids_;
  absl::flat_hash_map<uint64_t, Merge> merges_;  // key: left id << 32 | right id
  std::vector<int32_t> byte_ids_;  // 256 ids, -1 where the token is missing; empty = no fallback
  std::optional<int32_t> unknown_id_;
  bool fuse_unknown_ = false;
  bool ignore_merges_ = false;
};

}  // namespace rankine::tokenizer
