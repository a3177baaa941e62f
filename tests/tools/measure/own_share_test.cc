#include "tools/measure/own_share.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <thread>

namespace rankine {
namespace {

// Threads that are made later inherit it.
class OneCore {
 public:
  OneCore() {
    sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
  }
  ~OneCore() { sched_setaffinity(0, sizeof before_, &before_); }

 private:
  cpu_set_t before_;
};

TEST(OwnShareTest, FallsWhereAnotherThreadWantsTheSameCore) {
  const OneCore pinned;
  std::atomic<bool> done{false};
  std::thread other([&] {
    while (!done.load(std::memory_order_relaxed)) {
    }
  });
  const double share = OwnShare({});
  done = true;
  other.join();
  EXPECT_GT(share, 0);
  EXPECT_LT(share, 0.8);
}

}  // namespace
}  // namespace rankine
