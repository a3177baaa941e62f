#include "serving/call_registry.h"

#include <chrono>
#include <vector>

namespace rankine {

bool CallRegistry::Add(const std::shared_ptr<DrainableCall>& call) {
  MutexLock lock(mutex_);
  if (closed_) return false;
  calls_.emplace(call.get(), call);
  return true;
}

// Notifies with the lock held: the waiter may destroy the registry as soon as it can have the lock.
void CallRegistry::Remove(const DrainableCall* call) {
  MutexLock lock(mutex_);
  calls_.erase(call);
  if (calls_.empty()) empty_.notify_all();
}

void CallRegistry::Close() {
  MutexLock lock(mutex_);
  closed_ = true;
}

void CallRegistry::AbortAll() {
  std::vector<std::shared_ptr<DrainableCall>> calls;
  {
    MutexLock lock(mutex_);
    for (const auto& [address, weak] : calls_) {
      if (std::shared_ptr<DrainableCall> call = weak.lock()) calls.push_back(std::move(call));
    }
  }
  // Outside the lock: a call that this was the last owner of removes itself.
  for (const std::shared_ptr<DrainableCall>& call : calls) call->Abort();
}

// The lock is taken by hand: a condition variable releases it while it waits.
bool CallRegistry::WaitEmpty(int64_t timeout_ms) RK_NO_THREAD_SAFETY_ANALYSIS {
  mutex_.lock();
  const auto is_empty = [this] { return calls_.empty(); };
  bool empty = true;
  if (timeout_ms < 0) {
    empty_.wait(mutex_, is_empty);
  } else {
    empty = empty_.wait_for(mutex_, std::chrono::milliseconds(timeout_ms), is_empty);
  }
  mutex_.unlock();
  return empty;
}

}  // namespace rankine
