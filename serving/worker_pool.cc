#include "serving/worker_pool.h"

#include <utility>

namespace rankine {

WorkerPool::WorkerPool(int num_threads, int64_t max_queued) : max_queued_(max_queued) {
  for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this] { Run(); });
}

WorkerPool::~WorkerPool() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool WorkerPool::Submit(std::function<void()> task) {
  {
    MutexLock lock(mutex_);
    if (static_cast<int64_t>(queue_.size()) >= max_queued_) return false;
    queue_.push_back(std::move(task));
  }
  wake_.notify_one();
  return true;
}

// The lock is taken by hand: a condition variable releases it while it waits.
void WorkerPool::Run() RK_NO_THREAD_SAFETY_ANALYSIS {
  mutex_.lock();
  for (;;) {
    wake_.wait(mutex_, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) break;
    std::function<void()> task = std::move(queue_.front());
    queue_.pop_front();
    mutex_.unlock();
    task();
    task = nullptr;  // what it holds is released outside the lock
    mutex_.lock();
  }
  mutex_.unlock();
}

}  // namespace rankine
