// The text that a calibration runs, as windows of tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"

namespace rankine {

struct CalibrationOptions {
  std::vector<std::string> files;    // one after another make one text
  int64_t windows = 48;              // at even distances over the text
  int64_t window = 512;              // tokens of each, [CLS] and [SEP] of a BERT included
  std::string what = "calibration";  // in messages
};

struct CalibrationText {
  std::vector<std::vector<int32_t>> windows;  // of equal length
  std::string digest;                         // of their tokens
  int64_t tokens = 0;
};

// By the tokenizer of the checkpoint. kInvalidArgument: no windows asked for, a file that cannot be
// read, or too little text; the message says how much is needed.
absl::StatusOr<CalibrationText> ReadCalibrationText(const Checkpoint& checkpoint,
                                                    const CalibrationOptions& options);

}  // namespace rankine
