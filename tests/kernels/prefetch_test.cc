#include "kernels/cpu/prefetch.h"

#include <cstdint>

#include "gtest/gtest.h"

namespace rankine {
namespace {

// Which line of the window that begins at `window` is prefetched in the place of line `line`.
int64_t LineInTurn(uintptr_t window, int64_t line) {
  constexpr uintptr_t kWithinLine = 5;
  const uintptr_t at = window + static_cast<uintptr_t>(line) * 64 + kWithinLine;
  const char* p = InPagesInTurn(reinterpret_cast<const char*>(at));
  return static_cast<int64_t>(reinterpret_cast<uintptr_t>(p) - kWithinLine - window) / 64;
}

// Hence each line of the window once.
TEST(PrefetchTest, PagesInTurnAreTheFirstLinesOfFourPagesThenTheSecondOnes) {
  constexpr uintptr_t kWindow = 77 * kPrefetchWindow;
  constexpr int64_t kLinesOfPage = 4096 / 64;
  for (int64_t i = 0; i < 4 * kLinesOfPage; ++i) {
    EXPECT_EQ(LineInTurn(kWindow, i), i % 4 * kLinesOfPage + i / 4);
  }
  static_assert(4 * kLinesOfPage * 64 == kPrefetchWindow);
}

}  // namespace
}  // namespace rankine
