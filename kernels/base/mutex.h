// std::mutex with Clang's thread-safety annotations (g++ ignores them). Not absl::Mutex:
// ThreadSanitizer sees false races through Debian's uninstrumented build of it.
#pragma once

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define RK_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define RK_THREAD_ANNOTATION(x)
#endif
#define RK_CAPABILITY(x) RK_THREAD_ANNOTATION(capability(x))
#define RK_SCOPED_CAPABILITY RK_THREAD_ANNOTATION(scoped_lockable)
#define RK_GUARDED_BY(x) RK_THREAD_ANNOTATION(guarded_by(x))
#define RK_REQUIRES(...) RK_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define RK_ACQUIRE(...) RK_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define RK_RELEASE(...) RK_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define RK_EXCLUDES(...) RK_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define RK_NO_THREAD_SAFETY_ANALYSIS RK_THREAD_ANNOTATION(no_thread_safety_analysis)

namespace rankine {

class RK_CAPABILITY("mutex") Mutex {
 public:
  void lock() RK_ACQUIRE() { mutex_.lock(); }
  void unlock() RK_RELEASE() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

class RK_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) RK_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() RK_RELEASE() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// Waits with a Mutex held, as std::condition_variable_any does.
using CondVar = std::condition_variable_any;

}  // namespace rankine
