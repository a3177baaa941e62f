#include "runtime/engine/token_stream.h"

#include <atomic>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/base/mutex.h"

namespace rankine {

// The buffer holds the whole answer, so slots are written once and never reused. `state` is all
// that both threads touch: twice the number of published tokens, plus 1 once `end` is written. It
// is stored after the data it announces, and loaded before they are read.
//
// The mutex is only for a consumer that sleeps. `sleeping` and `state` are sequentially consistent:
// either the producer sees that the consumer sleeps, or the consumer sees the new state (Dekker).
struct TokenStream::Impl {
  Impl(uint64_t id, int64_t capacity, std::function<void()> notify)
      : id(id), notify(std::move(notify)), tokens(capacity) {}

  uint64_t id;
  std::function<void()> notify;
  std::vector<int32_t> tokens;
  std::atomic<uint32_t> state{0};
  std::atomic<bool> sleeping{false};
  Mutex mutex;
  CondVar wake;
  // Written by Finish, before the flag.
  TokenEvents end;

  // Producer.
  uint32_t published = 0;
  bool finished = false;
  // Consumer: the state up to which everything was taken.
  uint32_t taken = 0;

  void Announce() {
    state.store(2 * published + (finished ? 1 : 0));
    if (sleeping.load()) {
      MutexLock lock(mutex);
      wake.notify_one();
    }
    if (notify) notify();
  }
};

TokenStream::TokenStream(uint64_t id, int64_t capacity, std::function<void()> notify) {
  RK_CHECK(capacity >= 0 && capacity < (int64_t{1} << 30));
  impl_ = std::make_unique<Impl>(id, capacity, std::move(notify));
}

TokenStream::~TokenStream() = default;

uint64_t TokenStream::id() const { return impl_->id; }

bool TokenStream::Poll(TokenEvents* events) {
  Impl& s = *impl_;
  *events = TokenEvents();
  const uint32_t state = s.state.load();
  if (state == s.taken) return false;
  events->token_ids.assign(s.tokens.begin() + s.taken / 2, s.tokens.begin() + state / 2);
  s.taken = state;
  if (state % 2 == 1) {
    events->finish_reason = s.end.finish_reason;
    events->error = s.end.error;
    events->timing = s.end.timing;
  }
  return true;
}

void TokenStream::Wait() {
  // Nothing follows the end: waiting for more would never return.
  Impl& s = *impl_;
  RK_CHECK(s.taken % 2 == 0);
  if (s.state.load() != s.taken) return;
  MutexLock lock(s.mutex);
  s.sleeping.store(true);
  while (s.state.load() == s.taken) s.wake.wait(s.mutex);
  s.sleeping.store(false);
}

void TokenStream::Publish(int32_t token_id) {
  Impl& s = *impl_;
  RK_CHECK(!s.finished && s.published < s.tokens.size());
  s.tokens[s.published++] = token_id;
  s.Announce();
}

void TokenStream::Finish(FinishReason reason, std::string error, const RequestTiming& timing) {
  Impl& s = *impl_;
  RK_CHECK(!s.finished && reason != FinishReason::kNone);
  s.end.finish_reason = reason;
  s.end.error = std::move(error);
  s.end.timing = timing;
  s.finished = true;
  s.Announce();
}

}  // namespace rankine
