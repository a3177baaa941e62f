// Token ids to the text that may be shown: whole characters, and nothing of a stop string.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/tokenizer/tokenizer.h"
#include "serving/stop_matcher.h"

namespace rankine {

// One sequence; not thread-safe. The tokenizer must outlive it.
class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, std::vector<std::string> stop)
      : decoder_(tokenizer), matcher_(std::move(stop)) {}

  // Appends the text that became certain to *text. True when a stop string is complete; nothing may
  // be appended after that.
  bool Append(int32_t token_id, std::string* text) {
    return matcher_.Feed(decoder_.Append(token_id), text);
  }

  // The sequence ends here. True when its last characters complete a stop string.
  bool Finish(std::string* text) {
    if (matcher_.Feed(decoder_.Flush(), text)) return true;
    matcher_.Flush(text);
    return false;
  }

 private:
  StreamDecoder decoder_;
  StopMatcher matcher_;
};

}  // namespace rankine
