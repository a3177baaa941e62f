// The calls of Generate that are alive, so that a server can drain: let them end, then cut them
// off.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>

#include "kernels/base/mutex.h"

namespace rankine {

// A call as the registry sees it.
class DrainableCall {
 public:
  virtual ~DrainableCall() = default;
  // Ends the call soon, as UNAVAILABLE. From any thread.
  virtual void Abort() = 0;
};

// Thread-safe.
class CallRegistry {
 public:
  // False once closed; the call is then not held.
  [[nodiscard]] bool Add(const std::shared_ptr<DrainableCall>& call);
  // From the destructor of a call that was added: the last thing that it does with the server.
  void Remove(const DrainableCall* call);

  // No new calls.
  void Close();
  void AbortAll();
  // True when no call is left, at the latest after `timeout_ms`; negative = no limit.
  bool WaitEmpty(int64_t timeout_ms);

 private:
  Mutex mutex_;
  CondVar empty_;
  bool closed_ RK_GUARDED_BY(mutex_) = false;
  std::unordered_map<const DrainableCall*, std::weak_ptr<DrainableCall>> calls_
      RK_GUARDED_BY(mutex_);
};

}  // namespace rankine
