#include "tools/compress/calibration_text.h"

#include "absl/strings/str_cat.h"
#include "models/status_macros.h"
#include "models/text.h"
#include "tools/compress/fingerprint.h"
#include "tools/eval/token_windows.h"

namespace rankine {

absl::StatusOr<CalibrationText> ReadCalibrationText(const Checkpoint& checkpoint,
                                                    const CalibrationOptions& options) {
  if (options.windows < 1 || options.window < 1) {
    return absl::InvalidArgumentError(absl::StrCat("bad calibration: ", options.windows,
                                                   " windows of ", options.window, " tokens"));
  }
  RK_ASSIGN_OR_RETURN(const auto tokenizer, TokenizerOf(checkpoint));
  RK_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, ReadTextTokens(*tokenizer, options.files));
  const auto views = SelectWindows(tokens, options.window, options.windows);
  if (!views.ok()) {
    return absl::Status(views.status().code(),
                        absl::StrCat("calibration: ", views.status().message()));
  }
  CalibrationText text{.tokens = options.window * options.windows};
  Fingerprint digest;
  for (const auto& view : *views) {
    text.windows.emplace_back(view.begin(), view.end());
    digest.Add(TokensFingerprint(view));
  }
  text.digest = digest.Hex();
  return text;
}

}  // namespace rankine
