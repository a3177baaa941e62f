#include "runtime/engine/generate.h"

#include <memory>
#include <utility>
#include <vector>

namespace rankine {

TokenEvents TakeAll(TokenStream& stream) {
  std::vector<int32_t> token_ids;
  TokenEvents events;
  do {
    stream.Wait();
    stream.Poll(&events);
    token_ids.insert(token_ids.end(), events.token_ids.begin(), events.token_ids.end());
  } while (events.finish_reason == FinishReason::kNone);
  events.token_ids = std::move(token_ids);
  return events;
}

absl::StatusOr<TokenEvents> Generate(Engine& engine, Request request) {
  absl::StatusOr<std::shared_ptr<TokenStream>> stream = engine.Submit(std::move(request));
  if (!stream.ok()) return stream.status();
  return TakeAll(**stream);
}

}  // namespace rankine
