// The memory hierarchy of the machine: how large its levels are, and how fast each is read.
#pragma once

#include <cstdint>

#include "kernels/base/stream.h"

namespace rankine {

// Of data, in bytes: the first two of one core, the third of all that share it. What the system
// does not tell is 0.
struct CacheSizes {
  int64_t l1 = 0;
  int64_t l2 = 0;
  int64_t l3 = 0;
};
CacheSizes HostCacheSizes();

// Bytes per second of all threads of the stream together, each reading `bytes_per_thread` (rounded
// up to whole pages) of its own again and again: from the smallest level that holds that much. The
// best of `repeats`, each of some milliseconds.
double MeasureCachedBandwidth(Stream stream, int64_t bytes_per_thread, int repeats = 5);

}  // namespace rankine
