// A whole answer at once, for tools that don't stream.
#pragma once

#include "absl/status/statusor.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/request.h"

namespace rankine {

// Blocks until the request has ended. All token ids; the error of a failed request is in the result
// (finish_reason kError). Errors: those of Engine::Submit. Not on the engine's thread.
absl::StatusOr<TokenEvents> Generate(Engine& engine, Request request);

// Blocks until the stream ends, and gives all that was still to take.
TokenEvents TakeAll(TokenStream& stream);

}  // namespace rankine
