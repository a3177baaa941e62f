// Tokens on their way from the engine to one client: bounded, single producer (engine thread),
// single consumer. Sized at admission for the whole answer, so the engine never waits for a client.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "runtime/engine/request.h"

namespace rankine {

class TokenStream {
 public:
  // `notify` (may be empty) is called on the engine thread after each publish, when there is
  // something to take. It must not block and must not call the engine.
  TokenStream(uint64_t id, int64_t capacity, std::function<void()> notify);
  ~TokenStream();

  uint64_t id() const;

  // Consumer. Moves everything pending into *events; false when nothing was pending.
  // After events with a finish reason nothing follows.
  bool Poll(TokenEvents* events);
  // Blocks until Poll would return true. Not after the end was taken.
  void Wait();

  // Producer.
  void Publish(int32_t token_id);
  void Finish(FinishReason reason, std::string error, const RequestTiming& timing);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rankine
