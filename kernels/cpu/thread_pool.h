// A fork-join pool of fixed size. The caller of Run is thread 0 and takes part; Run returns when
// all threads have finished (one barrier). Waiting threads spin briefly, then sleep, because RPC
// threads share the same cores. Nothing is allocated per Run. One Run at a time: the pool belongs
// to one owner thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace rankine {

class ThreadPool {
 public:
  // num_threads >= 1, the caller included: num_threads - 1 threads are started. `pin`: each stays
  // on a core of its own among those that this process may run on, all but the first, which is left
  // to the caller; without effect when there are fewer cores than threads.
  explicit ThreadPool(int num_threads, bool pin = false);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;

  // Calls function(context, thread) once for each thread in [0, num_threads).
  using Function = void (*)(void* context, int thread);
  void Run(Function function, void* context);

  // The same for a callable `void(int thread)` that outlives the call.
  template <class F>
  void Run(F&& f) {
    Run([](void* context,
           int thread) { (*static_cast<std::remove_reference_t<F>*>(context))(thread); },
        &f);
  }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Threads to use by default: the cores this process may run on.
int DefaultNumThreads();
// Whether this process was given some of the machine's cores (taskset, a cpuset), so that pinning
// its threads there is in nobody's way. Two programs that pin on all cores share the first ones.
bool HasOwnCores();

// Hands out chunks [begin, end) of [0, count) to threads that ask; which thread gets which chunk
// never changes a result, because every output element is computed whole by one thread.
class WorkQueue {
 public:
  WorkQueue(int64_t count, int64_t chunk) : count_(count), chunk_(chunk) {}
  bool Next(int64_t* begin, int64_t* end) {
    const int64_t b = next_.fetch_add(chunk_, std::memory_order_relaxed);
    if (b >= count_) return false;
    *begin = b;
    *end = b + chunk_ < count_ ? b + chunk_ : count_;
    return true;
  }

 private:
  std::atomic<int64_t> next_{0};
  int64_t count_, chunk_;
};

}  // namespace rankine
