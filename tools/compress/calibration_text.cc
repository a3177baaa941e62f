#include "tools/compress/calibration_text.h"

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"
#include "models/text.h"
#include "tools/compress/fingerprint.h"
#include "tools/eval/token_windows.h"

namespace rankine {
namespace {

// Whether the tokenizer puts a token in front of every text and one behind it, as BERT's does with
// [CLS] and [SEP]: then each window is such a text.
bool IsFrame(const std::vector<int32_t>& tokens_of_nothing, int64_t window) {
  return tokens_of_nothing.size() == 2 && window > 2;
}

}  // namespace

absl::StatusOr<CalibrationText> ReadCalibrationText(const Checkpoint& checkpoint,
                                                    const CalibrationOptions& options) {
  if (options.windows < 1 || options.window < 1) {
    return absl::InvalidArgumentError(absl::StrCat("bad ", options.what, ": ", options.windows,
                                                   " windows of ", options.window, " tokens"));
  }
  RK_ASSIGN_OR_RETURN(const auto tokenizer, TokenizerOf(checkpoint));
  RK_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, ReadTextTokens(*tokenizer, options.files));
  RK_ASSIGN_OR_RETURN(const std::vector<int32_t> frame, tokenizer->Encode("", {}));
  const auto framed = static_cast<int64_t>(IsFrame(frame, options.window) ? frame.size() : 0);
  const auto views = SelectWindows(
      framed > 0 ? absl::MakeConstSpan(tokens).subspan(1, tokens.size() - frame.size())
                 : absl::MakeConstSpan(tokens),
      options.window - framed, options.windows);
  if (!views.ok()) {
    return absl::Status(views.status().code(),
                        absl::StrCat(options.what, ": ", views.status().message()));
  }
  CalibrationText text{.tokens = options.window * options.windows};
  Fingerprint digest;
  for (const auto& view : *views) {
    std::vector<int32_t>& window = text.windows.emplace_back(view.begin(), view.end());
    if (framed > 0) {
      window.insert(window.begin(), frame.front());
      window.push_back(frame.back());
    }
    digest.Add(TokensFingerprint(window));
  }
  text.digest = digest.Hex();
  return text;
}

}  // namespace rankine
