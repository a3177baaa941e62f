// Invariants of the program itself. What a user or a file can cause is a Status, never a check.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace rankine::internal {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace rankine::internal

#define RK_CHECK(condition)                                             \
  do {                                                                  \
    if (!(condition)) [[unlikely]]                                      \
      ::rankine::internal::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (false)
