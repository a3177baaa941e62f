#include "tools/eval/token_windows.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "models/files/file.h"

namespace rankine {

absl::StatusOr<std::vector<int32_t>> ReadTextTokens(const Tokenizer& tokenizer,
                                                    absl::Span<const std::string> files) {
  std::string text;
  for (const std::string& path : files) {
    auto file = ReadOnlyFile::Open(path);
    if (!file.ok()) return file.status();
    const size_t begin = text.size();
    text.resize(begin + static_cast<size_t>(file->size()));
    if (auto status = file->ReadAt(0, file->size(), text.data() + begin); !status.ok()) {
      return status;
    }
  }
  return tokenizer.Encode(text, {});
}

absl::StatusOr<std::vector<absl::Span<const int32_t>>> SelectWindows(
    absl::Span<const int32_t> tokens, int64_t length, int64_t count) {
  if (length < 1 || count < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("bad windows: ", count, " of ", length, " tokens"));
  }
  const int64_t available = static_cast<int64_t>(tokens.size()) / length;
  if (available < std::max<int64_t>(count, 1)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the text has ", tokens.size(), " tokens, which is ", available, " windows of ", length,
        "; ", std::max<int64_t>(count, 1), " are needed: give more text or ask for fewer windows"));
  }
  if (count == 0) count = available;
  std::vector<absl::Span<const int32_t>> windows;
  for (int64_t k = 0; k < count; ++k) {
    const int64_t index = k * available / count;
    windows.push_back(tokens.subspan(index * length, length));
  }
  return windows;
}

absl::StatusOr<std::vector<absl::Span<const int32_t>>> EvaluationWindows(
    absl::Span<const int32_t> tokens, int64_t context, int64_t max_windows) {
  if (context < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("a context of ", context, " tokens scores none; at least 2"));
  }
  const auto count = static_cast<int64_t>(tokens.size());
  if (count < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("the text has ", count, " tokens; perplexity needs at least 2"));
  }
  if (count < context) return std::vector<absl::Span<const int32_t>>{tokens};
  return SelectWindows(tokens, context,
                       max_windows == 0 ? 0 : std::min(max_windows, count / context));
}

}  // namespace rankine
