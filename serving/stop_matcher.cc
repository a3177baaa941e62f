#include "serving/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace rankine {
namespace {

std::vector<int32_t> Failure(std::string_view bytes) {
  std::vector<int32_t> failure(bytes.size(), 0);
  int32_t border = 0;
  for (size_t i = 1; i < bytes.size(); ++i) {
    while (border > 0 && bytes[i] != bytes[border]) border = failure[border - 1];
    if (bytes[i] == bytes[border]) ++border;
    failure[i] = border;
  }
  return failure;
}

}  // namespace

StopMatcher::StopMatcher(std::vector<std::string> stops) {
  for (std::string& stop : stops) {
    if (stop.empty()) continue;
    std::vector<int32_t> failure = Failure(stop);
    patterns_.push_back({.bytes = std::move(stop), .failure = std::move(failure)});
  }
}

void StopMatcher::Advance(char byte, Pattern* pattern) {
  int32_t matched = pattern->matched;
  while (matched > 0 && byte != pattern->bytes[matched]) matched = pattern->failure[matched - 1];
  if (byte == pattern->bytes[matched]) ++matched;
  pattern->matched = matched;
}

bool StopMatcher::Feed(std::string_view text, std::string* out) {
  if (patterns_.empty()) {
    out->append(text);
    return false;
  }
  size_t longest = 0;  // prefix of a stop string that the text so far ends with
  for (size_t i = 0; i < text.size(); ++i) {
    longest = 0;
    size_t complete = 0;
    for (Pattern& pattern : patterns_) {
      Advance(text[i], &pattern);
      const size_t matched = static_cast<size_t>(pattern.matched);
      longest = std::max(longest, matched);
      if (matched == pattern.bytes.size()) complete = std::max(complete, matched);
    }
    if (complete > 0) {
      held_.append(text.substr(0, i + 1));
      out->append(held_, 0, held_.size() - complete);
      held_.clear();
      return true;
    }
  }
  if (text.empty()) return false;
  held_.append(text);
  out->append(held_, 0, held_.size() - longest);
  held_.erase(0, held_.size() - longest);
  return false;
}

void StopMatcher::Flush(std::string* out) {
  out->append(held_);
  held_.clear();
}

}  // namespace rankine
