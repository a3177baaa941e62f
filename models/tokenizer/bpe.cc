#include "models/tokenizer/bpe.h"

#include <queue>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "models/tokenizer/utf8.h"

namespace rankine::tokenizer {
namespace {

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

uint64_t PairKey(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

// A pair that could be merged when it was queued; stale when either symbol has changed since.
struct Candidate {
  int32_t rank;
  int32_t position;  // of the left symbol
  int32_t result;
};

// For std::priority_queue, whose top is the largest.
struct IsWorse {
  bool operator()(const Candidate& a, const Candidate& b) const {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  }
};

absl::StatusOr<int32_t> IdOf(const absl::flat_hash_map<std::string, int32_t>& ids,
                             const std::string& piece, const std::string& where) {
  const auto found = ids.find(piece);
  if (found == ids.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, " names the token \"", piece, "\", which is not in the vocabulary"));
  }
  return found->second;
}

}  // namespace

absl::StatusOr<Bpe> Bpe::Create(const BpeSpec& spec, const std::vector<int32_t>& hidden) {
  Bpe bpe;
  bpe.fuse_unknown_ = spec.fuse_unknown;
  bpe.ignore_merges_ = spec.ignore_merges;
  for (const auto& [piece, id] : spec.vocabulary) {
    if (!bpe.ids_.emplace(piece, id).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("token \"", piece, "\" is in the vocabulary twice"));
    }
  }
  for (size_t i = 0; i < spec.merges.size(); ++i) {
    const auto& [left, right] = spec.merges[i];
    const std::string where = absl::StrCat("merge ", i);
    absl::StatusOr<int32_t> left_id = IdOf(bpe.ids_, left, where);
    if (!left_id.ok()) return left_id.status();
    absl::StatusOr<int32_t> right_id = IdOf(bpe.ids_, right, where);
    if (!right_id.ok()) return right_id.status();
    absl::StatusOr<int32_t> result = IdOf(bpe.ids_, left + right, where);
    if (!result.ok()) return result.status();
    // A pair that is listed twice has the rank of its last line, as in `tokenizers`.
    bpe.merges_[PairKey(*left_id, *right_id)] = {static_cast<int32_t>(i), *result};
  }
  if (!spec.unknown_token.empty()) {
    absl::StatusOr<int32_t> unknown = IdOf(bpe.ids_, spec.unknown_token, "unk_token");
    if (!unknown.ok()) return unknown.status();
    bpe.unknown_id_ = *unknown;
  }
  if (spec.byte_fallback) {
    for (int byte = 0; byte < 256; ++byte) {
      const auto found = bpe.ids_.find(absl::StrFormat("<0x%02X>", byte));
      bpe.byte_ids_.push_back(found == bpe.ids_.end() ? -1 : found->second);
    }
  }
  const absl::flat_hash_set<int32_t> hidden_ids(hidden.begin(), hidden.end());
  absl::erase_if(bpe.ids_, [&](const auto& entry) { return hidden_ids.contains(entry.second); });
  absl::erase_if(bpe.merges_,
                 [&](const auto& entry) { return hidden_ids.contains(entry.second.result); });
  return bpe;
}

bool Bpe::AppendBytes(std::string_view character, std::vector<int32_t>* ids) const {
  if (byte_ids_.empty()) return false;
  for (char byte : character) {
    if (byte_ids_[static_cast<uint8_t>(byte)] < 0) return false;
  }
  for (char byte : character) ids->push_back(byte_ids_[static_cast<uint8_t>(byte)]);
  return true;
}

std::vector<Bpe::Symbol> Bpe::InitialSymbols(std::string_view piece) const {
  std::vector<int32_t> ids;
  ids.reserve(piece.size());
  bool unknown_pending = false;
  while (!piece.empty()) {
    const std::string_view character = piece.substr(0, NextUtf8(piece).num_bytes);
    piece.remove_prefix(character.size());
    const auto found = ids_.find(View(character));
    if (found != ids_.end()) {
      if (unknown_pending) ids.push_back(*unknown_id_);
      unknown_pending = false;
      ids.push_back(found->second);
    } else if (!AppendBytes(character, &ids) && unknown_id_.has_value()) {
      if (unknown_pending && !fuse_unknown_) ids.push_back(*unknown_id_);
      unknown_pending = true;
    }
  }
  if (unknown_pending) ids.push_back(*unknown_id_);

  std::vector<Symbol> symbols(ids.size());
  const int32_t count = static_cast<int32_t>(ids.size());
  for (int32_t i = 0; i < count; ++i) {
    symbols[i] = {ids[i], i - 1, i + 1 < count ? i + 1 : -1, true};
  }
  return symbols;
}

const Bpe::Merge* Bpe::FindMerge(int32_t left, int32_t right) const {
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void Bpe::MergeAll(std::vector<Symbol>* symbols, int64_t* queue_operations) const {
  std::vector<Symbol>& s = *symbols;
  std::priority_queue<Candidate, std::vector<Candidate>, IsWorse> queue;
  const auto push = [&](int32_t position) {
    if (position < 0 || s[position].next < 0) return;
    const Merge* merge = FindMerge(s[position].id, s[s[position].next].id);
    if (merge == nullptr) return;
    queue.push({merge->rank, position, merge->result});
    ++*queue_operations;
  };
  for (int32_t i = 0; i < static_cast<int32_t>(s.size()); ++i) push(i);
  while (!queue.empty()) {
    const Candidate candidate = queue.top();
    queue.pop();
    ++*queue_operations;
    Symbol& left = s[candidate.position];
    if (!left.alive || left.next < 0) continue;
    Symbol& right = s[left.next];
    const Merge* merge = FindMerge(left.id, right.id);
    if (merge == nullptr || merge->result != candidate.result) continue;
    left.id = candidate.result;
    right.alive = false;
    left.next = right.next;
    if (left.next >= 0) s[left.next].previous = candidate.position;
    push(left.previous);
    push(candidate.position);
  }
}

void Bpe::Encode(std::string_view piece, std::vector<int32_t>* ids,
                 int64_t* queue_operations) const {
  if (ignore_merges_) {
    if (const auto found = ids_.find(View(piece)); found != ids_.end()) {
      ids->push_back(found->second);
      return;
    }
  }
  std::vector<Symbol> symbols = InitialSymbols(piece);
  if (symbols.empty()) return;
  MergeAll(&symbols, queue_operations);
  for (int32_t i = 0; i >= 0; i = symbols[i].next) ids->push_back(symbols[i].id);
}

}  // namespace rankine::tokenizer
