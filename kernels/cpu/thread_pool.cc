#include "kernels/cpu/thread_pool.h"

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "kernels/base/check.h"

namespace rankine {
namespace {

using Clock = std::chrono::steady_clock;

// A thread that spins as long as a sleep and wake-up would have cost loses at most a factor of two
// against the best choice in hindsight (ski rental; Karlin et al., SODA 1990). On virtual machines
// a futex wake-up takes 20 to 50 us.
constexpr auto kSpinTime = std::chrono::microseconds(50);
// About 64 pauses (1 to 4 us) between looks at the clock, which itself costs 20 to 40 ns.
constexpr int kPausesPerLook = 64;

// Waits until `value` differs from `old`: spins, then sleeps in the kernel.
template <class T>
void WaitWhileEqual(const std::atomic<T>& value, T old, bool may_spin) {
  if (may_spin) {
    const auto deadline = Clock::now() + kSpinTime;
    do {
      for (int i = 0; i < kPausesPerLook; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        _mm_pause();
      }
    } while (Clock::now() < deadline);
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

// The cores this process may run on.
std::vector<int> Cores() {
  std::vector<int> cores;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  }
  return cores;
}

// Where the system refuses, the thread stays free: pinning changes no result.
void Pin(std::thread& thread, int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  pthread_setaffinity_np(thread.native_handle(), sizeof(set), &set);
}

}  // namespace

// A Run is an epoch: thread 0 writes the job, advances `epoch` (release) and works; each worker
// sees the new epoch (acquire), works, and counts `busy` down (release); thread 0 waits for zero
// (acquire). Since no Run starts before the last one's workers have counted down, no worker can
// miss an epoch.
struct ThreadPool::Impl {
  alignas(64) std::atomic<uint32_t> epoch{0};
  alignas(64) std::atomic<int> busy{0};
  alignas(64) Function function = nullptr;  // null: stop
  void* context = nullptr;
  bool may_spin = true;
  std::vector<std::thread> workers;

  void Work(int thread) {
    uint32_t seen = 0;
    while (true) {
      WaitWhileEqual(epoch, seen, may_spin);
      ++seen;
      if (function == nullptr) return;
      function(context, thread);
      if (busy.fetch_sub(1, std::memory_order_acq_rel) == 1) busy.notify_one();
    }
  }

  void Publish(Function new_function, void* new_context) {
    function = new_function;
    context = new_context;
    busy.store(static_cast<int>(workers.size()), std::memory_order_relaxed);
    epoch.fetch_add(1, std::memory_order_release);
    epoch.notify_all();
  }

  void WaitForWorkers() {
    int left = busy.load(std::memory_order_acquire);
    while (left != 0) {
      WaitWhileEqual(busy, left, may_spin);
      left = busy.load(std::memory_order_acquire);
    }
  }
};

ThreadPool::ThreadPool(int num_threads, bool pin) : impl_(std::make_unique<Impl>()) {
  RK_CHECK(num_threads >= 1);
  // With more threads than cores a spinning thread would hold the core that the awaited one needs.
  impl_->may_spin = num_threads <= DefaultNumThreads();
  impl_->workers.reserve(num_threads - 1);
  for (int thread = 1; thread < num_threads; ++thread) {
    impl_->workers.emplace_back([impl = impl_.get(), thread] { impl->Work(thread); });
  }
  const std::vector<int> cores = Cores();
  if (!pin || static_cast<int>(cores.size()) < num_threads) return;
  for (int thread = 1; thread < num_threads; ++thread) {
    Pin(impl_->workers[thread - 1], cores[thread]);
  }
}

ThreadPool::~ThreadPool() {
  impl_->Publish(nullptr, nullptr);
  for (std::thread& worker : impl_->workers) worker.join();
}

int ThreadPool::num_threads() const { return static_cast<int>(impl_->workers.size()) + 1; }

void ThreadPool::Run(Function function, void* context) {
  if (impl_->workers.empty()) {
    function(context, 0);
    return;
  }
  impl_->Publish(function, context);
  function(context, 0);
  impl_->WaitForWorkers();
}

int DefaultNumThreads() {
  const auto cores = static_cast<int>(Cores().size());
  return cores > 0 ? cores : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

bool HasOwnCores() { return static_cast<long>(Cores().size()) < sysconf(_SC_NPROCESSORS_ONLN); }

}  // namespace rankine
