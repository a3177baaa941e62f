#include "models/tokenizer/normalizer.h"

#include "models/tokenizer/unicode.h"

namespace rankine::tokenizer {
namespace {

void Strip(const NormalizerStep& step, std::string* text, bool* start_removed) {
  if (step.strip_right) text->resize(text->size() - TrailingSpaceBytes(*text));
  if (!step.strip_left) return;
  const size_t num_bytes = LeadingSpaceBytes(*text);
  if (num_bytes > 0) *start_removed = true;
  text->erase(0, num_bytes);
}

absl::Status Replace(const NormalizerStep& step, std::string* text) {
  std::vector<TextRange> matches;
  if (step.regex.has_value()) {
    if (absl::Status status = step.regex->FindAll(*text, &matches); !status.ok()) return status;
  } else if (!step.literal.empty()) {
    for (size_t at = text->find(step.literal); at != std::string::npos;
         at = text->find(step.literal, at + step.literal.size())) {
      matches.push_back({at, at + step.literal.size()});
    }
  }
  if (matches.empty()) return absl::OkStatus();
  std::string out;
  out.reserve(text->size());
  size_t done = 0;
  for (const TextRange& match : matches) {
    out.append(*text, done, match.begin - done);
    out += step.text;
    done = match.end;
  }
  out.append(*text, done, std::string::npos);
  *text = std::move(out);
  return absl::OkStatus();
}

absl::Status Apply(const NormalizerStep& step, std::string* text, bool* start_removed) {
  using Kind = NormalizerStep::Kind;
  switch (step.kind) {
    case Kind::kNfc:
      *text = ToNormalForm(*text, NormalForm::kNfc);
      break;
    case Kind::kNfd:
      *text = ToNormalForm(*text, NormalForm::kNfd);
      break;
    case Kind::kNfkc:
      *text = ToNormalForm(*text, NormalForm::kNfkc);
      break;
    case Kind::kNfkd:
      *text = ToNormalForm(*text, NormalForm::kNfkd);
      break;
    case Kind::kLowercase:
      *text = ToLower(*text);
      break;
    case Kind::kStrip:
      Strip(step, text, start_removed);
      break;
    case Kind::kPrepend:
      if (!text->empty()) text->insert(0, step.text);
      break;
    case Kind::kReplace:
      return Replace(step, text);
    case Kind::kBert:
      *text = BertNormalize(*text, step.bert);
      break;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Normalize(const std::vector<NormalizerStep>& steps, std::string* text,
                       bool* start_removed) {
  *start_removed = false;
  // A character that only turned into a space and a mark (U+309B under NFKC) still begins the text.
  const bool begins_with_space = LeadingSpaceBytes(*text) > 0;
  for (const NormalizerStep& step : steps) {
    if (absl::Status status = Apply(step, text, start_removed); !status.ok()) return status;
  }
  *start_removed = *start_removed && begins_with_space;
  return absl::OkStatus();
}

}  // namespace rankine::tokenizer
