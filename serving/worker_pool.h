// A few threads that run small tasks in the order of their arrival, from a bounded queue.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "kernels/base/mutex.h"

namespace rankine {

// Thread-safe.
class WorkerPool {
 public:
  WorkerPool(int num_threads, int64_t max_queued);
  // Runs what is queued, then ends the threads.
  ~WorkerPool();

  // False when the queue is full. Never blocks.
  [[nodiscard]] bool Submit(std::function<void()> task);

 private:
  void Run();

  const int64_t max_queued_;
  Mutex mutex_;
  CondVar wake_;
  std::deque<std::function<void()>> queue_ RK_GUARDED_BY(mutex_);
  bool stopping_ RK_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace rankine
