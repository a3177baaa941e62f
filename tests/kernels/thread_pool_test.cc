#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace rankine {
namespace {

TEST(ThreadPoolTest, EveryThreadRunsOncePerRun) {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.num_threads(), threads);
    std::vector<int> counts(threads);  // plain ints: a race or a missing barrier shows under TSan
    for (int run = 0; run < 500; ++run) {
      pool.Run([&](int thread) { ++counts[thread]; });
      for (int count : counts) ASSERT_EQ(count, run + 1);
    }
  }
}

TEST(ThreadPoolTest, RunSeesWhatTheCallerWroteAndTheCallerSeesWhatThreadsWrote) {
  ThreadPool pool(4);
  int64_t input = 0;
  std::vector<int64_t> output(4);
  for (int run = 1; run <= 300; ++run) {
    input = run;
    pool.Run([&](int thread) { output[thread] = input * (thread + 1); });
    for (int thread = 0; thread < 4; ++thread) ASSERT_EQ(output[thread], run * (thread + 1));
  }
}

// The caller stays free; every other thread has one core, each another.
TEST(ThreadPoolTest, PinsEachThreadToACoreOfItsOwnWhereThereAreEnough) {
  const int cores = DefaultNumThreads();
  std::vector<cpu_set_t> sets(cores);
  ThreadPool pool(cores, true);
  pool.Run([&](int thread) {
    CPU_ZERO(&sets[thread]);
    ASSERT_EQ(sched_getaffinity(0, sizeof(cpu_set_t), &sets[thread]), 0);
  });
  EXPECT_EQ(CPU_COUNT(&sets[0]), cores);
  for (int thread = 1; thread < cores; ++thread) {
    EXPECT_EQ(CPU_COUNT(&sets[thread]), 1);
    for (int other = 1; other < thread; ++other) {
      EXPECT_FALSE(CPU_EQUAL(&sets[thread], &sets[other]));
    }
  }
}

TEST(ThreadPoolTest, PinsNothingWithMoreThreadsThanCores) {
  const int threads = DefaultNumThreads() + 1;
  std::vector<int> counts(threads);
  ThreadPool pool(threads, true);
  pool.Run([&](int thread) {
    cpu_set_t set;
    CPU_ZERO(&set);
    ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
    counts[thread] = CPU_COUNT(&set);
  });
  for (int count : counts) EXPECT_EQ(count, DefaultNumThreads());
}

// Longer pauses than threads spin for: they sleep, and must wake.
TEST(ThreadPoolTest, WakesSleepingThreads) {
  ThreadPool pool(2);
  int counts[2] = {};
  for (int run = 0; run < 5; ++run) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    pool.Run([&](int thread) {
      if (thread == 1) std::this_thread::sleep_for(std::chrono::milliseconds(3));
      ++counts[thread];
    });
  }
  EXPECT_EQ(counts[0], 5);
  EXPECT_EQ(counts[1], 5);
}

TEST(ThreadPoolTest, MoreThreadsThanCores) {
  ThreadPool pool(4 * DefaultNumThreads() + 1);
  std::vector<int> counts(pool.num_threads());
  for (int run = 0; run < 50; ++run) pool.Run([&](int thread) { ++counts[thread]; });
  for (int count : counts) EXPECT_EQ(count, 50);
}

TEST(ThreadPoolTest, DestructionWithoutRun) {
  for (int i = 0; i < 20; ++i) ThreadPool pool(3);
}

TEST(ThreadPoolTest, DefaultNumThreadsIsPositive) { EXPECT_GE(DefaultNumThreads(), 1); }

TEST(WorkQueueTest, HandsOutEveryItemOnce) {
  ThreadPool pool(3);
  for (int64_t count : {0, 1, 7, 64, 1000}) {
    for (int64_t chunk : {1, 3, 64}) {
      WorkQueue queue(count, chunk);
      std::vector<std::atomic<int>> taken(count);
      pool.Run([&](int) {
        int64_t begin, end;
        while (queue.Next(&begin, &end)) {
          for (int64_t i = begin; i < end; ++i) ++taken[i];
        }
      });
      for (auto& times : taken) ASSERT_EQ(times.load(), 1);
    }
  }
}

}  // namespace
}  // namespace rankine
