// Wall time since a moment.
#pragma once

#include <chrono>

namespace rankine {

using Clock = std::chrono::steady_clock;

inline double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace rankine
