// Finds stop strings in a text that arrives in pieces. One Knuth-Morris-Pratt automaton per string:
// each byte is looked at once, so the cost does not depend on where the pieces are cut.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace rankine {

// Not thread-safe.
class StopMatcher {
 public:
  // Empty strings are ignored.
  explicit StopMatcher(std::vector<std::string> stops);

  // Appends to *out the text that is certain to lie before any stop string, and holds back what may
  // be the start of one. True when a stop string is complete: *out then got all text before it, and
  // nothing more may be fed. Of several that could end the text, the first to be complete counts,
  // and of those the longest.
  bool Feed(std::string_view text, std::string* out);

  // The text ends here: appends what was held back.
  void Flush(std::string* out);

 private:
  struct Pattern {
    std::string bytes;
    std::vector<int32_t> failure;  // [bytes.size()]: length of the longest border of each prefix
    int32_t matched = 0;           // length of the prefix that the text now ends with
  };

  static void Advance(char byte, Pattern* pattern);

  std::vector<Pattern> patterns_;
  std::string held_;  // the end of the text, not emitted: as long as the longest `matched`
};

}  // namespace rankine
