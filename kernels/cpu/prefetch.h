// How far ahead of its loads, and in which order, a product prefetches weights. That changes no
// result, so it may follow the machine: the distance must cover the latency of memory, which cores
// hide with more requests in flight (Intel) or fewer (AMD).
#pragma once

#include <cstdint>

namespace rankine {

// Of a streaming tile of float weights with `rows` rows: a step takes longer with more rows, while
// the window of out-of-order execution covers fewer.
int64_t PrefetchBytes(int rows);

// Of block-encoded weights with so few rows that each thread reads one long stream.
int64_t BlockPrefetchBytes();

// Whether a thread that streams so many bytes of few rows prefetches four pages in turn, to L1,
// rather than line after line. A core of Intel's servers reads several streams faster than one: its
// prefetcher follows a stream to the end of the page and has to start again on the next.
bool PrefetchesPagesInTurn(int64_t bytes);

// The four pages of a window; so far ahead of its loads such a stream is prefetched.
inline constexpr int64_t kPrefetchWindow = 16 << 10;

// The line to prefetch in the place of line `p` of a stream: of each window (aligned) the first
// lines of its four pages, then their second ones, and so on.
inline const char* InPagesInTurn(const char* p) {
  const auto at = reinterpret_cast<uintptr_t>(p);
  constexpr uintptr_t kLines = kPrefetchWindow - 64, kLineOfPage = 4096 - 64, kPage = 3 << 12;
  return reinterpret_cast<const char*>((at & ~kLines) | (at >> 2 & kLineOfPage) |
                                       (at << 6 & kPage));
}

// Prefetches `count` lines of a stream from `begin` on, in pages in turn or, line after line, to L1
// (kLocality 3) or L2 (2).
template <int kLocality>
__attribute__((always_inline)) inline void PrefetchLines(const char* begin, int64_t count,
                                                         bool pages_in_turn) {
  if (pages_in_turn) {
#pragma GCC unroll 17
    for (int64_t i = 0; i < count; ++i) __builtin_prefetch(InPagesInTurn(begin + i * 64), 0, 3);
  } else {
#pragma GCC unroll 17
    for (int64_t i = 0; i < count; ++i) __builtin_prefetch(begin + i * 64, 0, kLocality);
  }
}

}  // namespace rankine
