// Where a kernel runs. On the CPU: the fork-join pool whose threads share the work; null = the
// caller alone.
#pragma once

namespace rankine {

class ThreadPool;

struct Stream {
  ThreadPool* pool = nullptr;
};

}  // namespace rankine
