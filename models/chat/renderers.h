// One function per format: what its template prints.
#pragma once

#include "absl/status/status.h"
#include "models/chat/known_formats.h"

namespace rankine::chat {

absl::Status RenderChatMl(const RenderArgs& args, SegmentWriter* out);
absl::Status RenderSmolLm2(const RenderArgs& args, SegmentWriter* out);
absl::Status RenderLlama2(const RenderArgs& args, SegmentWriter* out);
absl::Status RenderLlama3(const RenderArgs& args, SegmentWriter* out);
absl::Status RenderLlama3AlwaysPrompting(const RenderArgs& args, SegmentWriter* out);
absl::Status RenderZephyr(const RenderArgs& args, SegmentWriter* out);
absl::Status RenderMistral(const RenderArgs& args, SegmentWriter* out);
absl::Status RenderMistralV01(const RenderArgs& args, SegmentWriter* out);
absl::Status RenderMistralSystem(const RenderArgs& args, SegmentWriter* out);
absl::Status RenderGemma(const RenderArgs& args, SegmentWriter* out);
absl::Status RenderGemmaWithoutBos(const RenderArgs& args, SegmentWriter* out);

}  // namespace rankine::chat
