// The text side of a checkpoint: its tokenizer and its chat format, from a folder or from a GGUF
// file.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "models/chat/chat_format.h"
#include "models/checkpoint/checkpoint.h"
#include "models/tokenizer/tokenizer.h"

namespace rankine {

// kInvalidArgument when it has none.
absl::StatusOr<std::unique_ptr<const Tokenizer>> TokenizerOf(const Checkpoint& checkpoint);

// kNotFound when it has no chat template, kUnimplemented when that is not a known one.
absl::StatusOr<ChatFormat> ChatFormatOf(const Checkpoint& checkpoint);

}  // namespace rankine
