// Runs work on the pool's threads; shares the rows of an op among them, unless the work is smaller
// than a barrier is worth.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/base/stream.h"
#include "kernels/cpu/thread_pool.h"

namespace rankine {

// A barrier takes some microseconds, in which one core handles about this many elements of a
// row-wise op.
inline constexpr int64_t kElementsWorthABarrier = 32768;

// Calls work(thread) on every thread of the pool, or once where there is none.
template <class Work>
void OnThreads(Stream stream, Work&& work) {
  if (stream.pool == nullptr) {
    work(0);
  } else {
    stream.pool->Run(work);
  }
}

// With fewer items a thread, one that takes ahead could take what others wait for.
inline constexpr int64_t kItemsPerThreadToTakeAhead = 4;

// Calls body(now, next) for what take(&item) hands to this thread, until it returns false. Where
// there are items enough, the next one is taken before body works on the present one, which can
// then prefetch it; else next is `none`.
template <class Item, class Take, class Body>
void TakeAhead(bool enough_items, const Item& none, Take&& take, Body&& body) {
  Item now = none, next = none;
  for (bool more = take(&now); more; now = next) {
    next = none;
    if (enough_items) more = take(&next);
    body(now, next);
    if (!enough_items) more = take(&next);
  }
}

// Calls body(begin, end) for disjoint runs of rows that cover [0, rows). Rows are independent, so
// the split never shows in a result. `row_elements` estimates the work of a row.
template <class Body>
void ForRows(Stream stream, int64_t rows, int64_t row_elements, Body&& body) {
  if (stream.pool == nullptr || rows < 2 || rows * row_elements < kElementsWorthABarrier) {
    body(int64_t{0}, rows);
    return;
  }
  // A few chunks per thread balance the load.
  const int64_t chunk = std::max<int64_t>(1, rows / (4 * stream.pool->num_threads()));
  WorkQueue queue(rows, chunk);
  stream.pool->Run([&](int) {
    int64_t begin = 0;
    int64_t end = 0;
    while (queue.Next(&begin, &end)) body(begin, end);
  });
}

}  // namespace rankine
