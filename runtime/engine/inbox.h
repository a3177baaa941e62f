// Where callers of the engine and its thread meet: what was submitted and cancelled, the bounds of
// admission, and the figures that the thread reports. All of it is behind one mutex, which nobody
// holds while computing or while calling out.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "kernels/base/mutex.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/sequence.h"

namespace rankine {

struct CancelMessage {
  uint64_t id = 0;
  FinishReason reason = FinishReason::kCancelled;
};

class Inbox {
 public:
  struct Messages {
    std::vector<std::unique_ptr<Sequence>> arrivals;  // in order
    std::vector<CancelMessage> cancels;
    bool stop = false;
  };

  explicit Inbox(const EngineOptions& options) : options_(options) {}

  // Callers, any thread.
  // kResourceExhausted: the queue is full; kUnavailable: draining or stopping.
  absl::Status Push(std::unique_ptr<Sequence> sequence) RK_EXCLUDES(mutex_);
  void Cancel(const CancelMessage& message) RK_EXCLUDES(mutex_);
  void Drain() RK_EXCLUDES(mutex_);
  void Stop() RK_EXCLUDES(mutex_);
  bool WaitIdle(int64_t timeout_ms) RK_EXCLUDES(mutex_);
  EngineStats stats() const RK_EXCLUDES(mutex_);

  // The engine thread.
  // Moves everything that came into *messages (whose lists are empty). With `sleep`, blocks until
  // there is something.
  void Take(bool sleep, Messages* messages) RK_EXCLUDES(mutex_);
  // A sequence is no longer queued: it runs, or has ended.
  void LeftQueue(int64_t prompt_tokens) RK_EXCLUDES(mutex_);
  // After a step: the figures of the engine thread. `waiting` is the inbox's own.
  void Report(const EngineStats& stats) RK_EXCLUDES(mutex_);
  // These many requests have ended and their streams are finished.
  void Ended(int64_t count) RK_EXCLUDES(mutex_);

 private:
  const EngineOptions options_;
  mutable Mutex mutex_;
  CondVar work_;  // something to take
  CondVar idle_;  // unfinished_ became 0
  Messages messages_ RK_GUARDED_BY(mutex_);
  bool draining_ RK_GUARDED_BY(mutex_) = false;
  int64_t queued_ RK_GUARDED_BY(mutex_) = 0;         // submitted and not yet running
  int64_t queued_tokens_ RK_GUARDED_BY(mutex_) = 0;  // of their prompts
  int64_t unfinished_ RK_GUARDED_BY(mutex_) = 0;     // queued or running
  EngineStats stats_ RK_GUARDED_BY(mutex_);
};

}  // namespace rankine
