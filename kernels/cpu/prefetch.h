// How far ahead of its loads a product prefetches weights. The distance changes no result,
// so it may follow the machine: it must cover the latency of memory, which cores hide with more
// requests in flight (Intel) or fewer (AMD).
#pragma once

#include <cstdint>

namespace rankine {

// Of a streaming tile of float weights with `rows` rows: a step takes longer with more rows, while
// the window of out-of-order execution covers fewer.
int64_t PrefetchBytes(int rows);

// Of block-encoded weights with so few rows that each thread reads one long stream.
int64_t BlockPrefetchBytes();

}  // namespace rankine
