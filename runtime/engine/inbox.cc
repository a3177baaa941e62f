#include "runtime/engine/inbox.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

namespace rankine {
namespace {

// Three years: "for ever", without overflow of a time point.
constexpr int64_t kMaxWaitMs = 100'000'000'000;

}  // namespace

absl::Status Inbox::Push(std::unique_ptr<Sequence> sequence) {
  MutexLock lock(mutex_);
  if (messages_.stop || draining_) {
    return absl::UnavailableError("the engine is shutting down and takes no new requests");
  }
  if (queued_ >= options_.max_queued) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the queue is full: ", queued_, " requests wait; try again later"));
  }
  // A prompt longer than the whole bound still gets its turn: alone.
  if (queued_ > 0 && queued_tokens_ + sequence->prompt_tokens > options_.max_queued_tokens) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the queue is full: prompts of ", queued_tokens_, " tokens wait; try again later"));
  }
  ++queued_;
  ++unfinished_;
  queued_tokens_ += sequence->prompt_tokens;
  messages_.arrivals.push_back(std::move(sequence));
  work_.notify_one();
  return absl::OkStatus();
}

void Inbox::Cancel(const CancelMessage& message) {
  MutexLock lock(mutex_);
  // Nothing to cancel: without this, cancels of finished requests would pile up while idle.
  if (unfinished_ == 0) return;
  messages_.cancels.push_back(message);
  work_.notify_one();
}

void Inbox::Drain() {
  MutexLock lock(mutex_);
  draining_ = true;
}

void Inbox::Stop() {
  MutexLock lock(mutex_);
  messages_.stop = true;
  work_.notify_one();
}

bool Inbox::WaitIdle(int64_t timeout_ms) {
  const auto deadline = std::chrono::steady_clock::now() +
                        std::chrono::milliseconds(std::clamp<int64_t>(timeout_ms, 0, kMaxWaitMs));
  MutexLock lock(mutex_);
  while (unfinished_ > 0) {
    if (idle_.wait_until(mutex_, deadline) == std::cv_status::timeout) break;
  }
  return unfinished_ == 0;
}

EngineStats Inbox::stats() const {
  MutexLock lock(mutex_);
  EngineStats stats = stats_;
  stats.waiting = queued_;
  return stats;
}

void Inbox::Take(bool sleep, Messages* messages) {
  MutexLock lock(mutex_);
  while (sleep && messages_.arrivals.empty() && messages_.cancels.empty() && !messages_.stop) {
    work_.wait(mutex_);
  }
  std::swap(messages->arrivals, messages_.arrivals);
  std::swap(messages->cancels, messages_.cancels);
  messages->stop = messages_.stop;
}

void Inbox::LeftQueue(int64_t prompt_tokens) {
  MutexLock lock(mutex_);
  --queued_;
  queued_tokens_ -= prompt_tokens;
}

void Inbox::Report(const EngineStats& stats) {
  MutexLock lock(mutex_);
  stats_ = stats;
}

void Inbox::Ended(int64_t count) {
  MutexLock lock(mutex_);
  unfinished_ -= count;
  if (unfinished_ == 0) idle_.notify_all();
}

}  // namespace rankine
