#include "models/tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <utility>

#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/unicode.h"
#include "models/tokenizer/utf8.h"
#include "models/tokenizer/wordpiece.h"

namespace rankine::tokenizer {
namespace {

using Behavior = PreTokenizerStep::Behavior;

// A part of the text that the pattern matches, or a gap between such parts.
struct Section {
  TextRange range;
  bool is_match;
};

std::vector<Section> Sections(const std::vector<TextRange>& matches, size_t text_size,
                              bool invert) {
  std::vector<Section> sections;
  size_t done = 0;
  for (const TextRange& match : matches) {
    if (match.begin > done) sections.push_back({{done, match.begin}, invert});
    sections.push_back({match, !invert});
    done = match.end;
  }
  if (done < text_size) sections.push_back({{done, text_size}, invert});
  return sections;
}

// Joins each match to the section before it, unless that is a match too.
std::vector<TextRange> MergeWithPrevious(const std::vector<Section>& sections) {
  std::vector<TextRange> ranges;
  bool previous_match = false;
  for (const Section& section : sections) {
    if (section.is_match && !previous_match && !ranges.empty()) {
      ranges.back().end = section.range.end;
    } else {
      ranges.push_back(section.range);
    }
    previous_match = section.is_match;
  }
  return ranges;
}

std::vector<TextRange> MergeWithNext(const std::vector<Section>& sections) {
  std::vector<TextRange> ranges;
  bool previous_match = false;
  for (auto section = sections.rbegin(); section != sections.rend(); ++section) {
    if (section->is_match && !previous_match && !ranges.empty()) {
      ranges.back().begin = section->range.begin;
    } else {
      ranges.push_back(section->range);
    }
    previous_match = section->is_match;
  }
  std::reverse(ranges.begin(), ranges.end());
  return ranges;
}

std::vector<TextRange> Contiguous(const std::vector<Section>& sections) {
  std::vector<TextRange> ranges;
  for (size_t i = 0; i < sections.size(); ++i) {
    if (i > 0 && sections[i].is_match == sections[i - 1].is_match) {
      ranges.back().end = sections[i].range.end;
    } else {
      ranges.push_back(sections[i].range);
    }
  }
  return ranges;
}

std::vector<TextRange> Arrange(const std::vector<Section>& sections, Behavior behavior) {
  std::vector<TextRange> ranges;
  switch (behavior) {
    case Behavior::kMergedWithPrevious:
      return MergeWithPrevious(sections);
    case Behavior::kMergedWithNext:
      return MergeWithNext(sections);
    case Behavior::kContiguous:
      return Contiguous(sections);
    case Behavior::kRemoved:
    case Behavior::kIsolated:
      for (const Section& section : sections) {
        if (behavior == Behavior::kIsolated || !section.is_match) ranges.push_back(section.range);
      }
      return ranges;
  }
  return ranges;
}

void Split(const TextPiece& piece, const std::vector<TextRange>& matches, Behavior behavior,
           bool invert, std::vector<TextPiece>* out) {
  for (const TextRange& range : Arrange(Sections(matches, piece.text.size(), invert), behavior)) {
    out->push_back({piece.text.substr(range.begin, range.end - range.begin),
                    piece.at_start && range.begin == 0});
  }
}

std::vector<TextRange> FindNumeric(const std::string& text) {
  std::vector<TextRange> matches;
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = NextUtf8(std::string_view(text).substr(at));
    if (IsNumeric(step.code_point)) matches.push_back({at, at + step.num_bytes});
    at += step.num_bytes;
  }
  return matches;
}

std::vector<TextRange> FindLiteral(const std::string& text, const std::string& literal) {
  std::vector<TextRange> matches;
  for (size_t at = text.find(literal); at != std::string::npos;
       at = text.find(literal, at + literal.size())) {
    matches.push_back({at, at + literal.size()});
  }
  return matches;
}

absl::Status ByteLevel(const PreTokenizerStep& step, TextPiece piece, std::vector<TextPiece>* out) {
  if (step.add_prefix_space && piece.text.front() != ' ') piece.text.insert(0, " ");
  const size_t first_new = out->size();
  if (step.regex.has_value()) {
    std::vector<TextRange> matches;
    if (absl::Status status = step.regex->FindAll(piece.text, &matches); !status.ok())
      return status;
    Split(piece, matches, Behavior::kIsolated, /*invert=*/false, out);
  } else {
    out->push_back(std::move(piece));
  }
  for (size_t i = first_new; i < out->size(); ++i) {
    (*out)[i].text = BytesToCharacters((*out)[i].text);
  }
  return absl::OkStatus();
}

void Metaspace(const PreTokenizerStep& step, TextPiece piece, std::vector<TextPiece>* out) {
  std::string text;
  text.reserve(piece.text.size());
  for (char c : piece.text) {
    if (c == ' ') {
      text += step.replacement;
    } else {
      text.push_back(c);
    }
  }
  const bool may_prepend = step.prepend == PreTokenizerStep::Prepend::kAlways ||
                           (step.prepend == PreTokenizerStep::Prepend::kFirst && piece.at_start);
  if (may_prepend && text.compare(0, step.replacement.size(), step.replacement) != 0) {
    text.insert(0, step.replacement);
  }
  piece.text = std::move(text);
  if (!step.split) {
    out->push_back(std::move(piece));
    return;
  }
  Split(piece, FindLiteral(piece.text, step.replacement), Behavior::kMergedWithNext,
        /*invert=*/false, out);
}

absl::Status Apply(const PreTokenizerStep& step, TextPiece piece, std::vector<TextPiece>* out) {
  using Kind = PreTokenizerStep::Kind;
  switch (step.kind) {
    case Kind::kByteLevel:
      return ByteLevel(step, std::move(piece), out);
    case Kind::kSplit: {
      std::vector<TextRange> matches;
      if (step.regex.has_value()) {
        absl::Status status = step.regex->FindAll(piece.text, &matches);
        if (!status.ok()) return status;
      } else {
        matches = FindLiteral(piece.text, step.literal);
      }
      Split(piece, matches, step.behavior, step.invert, out);
      return absl::OkStatus();
    }
    case Kind::kDigits:
      Split(piece, FindNumeric(piece.text),
            step.individual_digits ? Behavior::kIsolated : Behavior::kContiguous,
            /*invert=*/false, out);
      return absl::OkStatus();
    case Kind::kMetaspace:
      Metaspace(step, std::move(piece), out);
      return absl::OkStatus();
    case Kind::kBert:
      // Only Metaspace asks for the start of the text, and does not come after this step.
      for (std::string& word : BertSplit(piece.text)) out->push_back({std::move(word), false});
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

}  // namespace

const char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

absl::Status PreTokenize(const std::vector<PreTokenizerStep>& steps,
                         std::vector<TextPiece>* pieces) {
  for (const PreTokenizerStep& step : steps) {
    std::vector<TextPiece> next;
    next.reserve(pieces->size());
    for (TextPiece& piece : *pieces) {
      if (piece.text.empty()) continue;
      if (absl::Status status = Apply(step, std::move(piece), &next); !status.ok()) return status;
    }
    *pieces = std::move(next);
  }
  return absl::OkStatus();
}

}  // namespace rankine::tokenizer
