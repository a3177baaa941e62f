#include "tools/compress/search/model_loss.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace rankine {

std::string Describe(const SearchSettings& settings) {
  std::string text =
      absl::StrCat(settings.evaluations, " evaluations, ", settings.depth_bands, " bands, seed ",
                   settings.seed, ", ", settings.interventions, " interventions, shares");
  for (const double share : settings.shares) absl::StrAppendFormat(&text, " %.17g", share);
  return text;
}

absl::StatusOr<std::vector<double>> SharesOr(const SearchSettings& settings,
                                             absl::Span<const double> own) {
  std::vector<double> shares = settings.shares;
  if (shares.empty()) shares.assign(own.begin(), own.end());
  for (const double share : shares) {
    if (share > 0 && share < 1) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("share ", share, " is outside (0, 1): --search-shares are parts of a linear"));
  }
  std::sort(shares.begin(), shares.end());
  shares.erase(std::unique(shares.begin(), shares.end()), shares.end());
  return shares;
}

}  // namespace rankine
