// The inner loops of machine_peak.cc, by instruction set.
#pragma once

#include <cstdint>

namespace rankine {

// Reads [begin, begin + bytes), bytes a multiple of 4096, as `streams` interleaved runs of equal
// length, each prefetched `prefetch` bytes ahead (0 = not at all). Returns something that depends
// on every byte.
using ReadFn = uint64_t (*)(const char* begin, int64_t bytes, int streams, int64_t prefetch);
uint64_t ReadAvx2(const char* begin, int64_t bytes, int streams, int64_t prefetch);
uint64_t ReadAvx512(const char* begin, int64_t bytes, int streams, int64_t prefetch);

// `iterations` rounds of independent multiply-adds; returns the operations done (two per
// multiply-add).
using FlopsFn = double (*)(int64_t iterations, float* sink);
double FmaAvx2(int64_t iterations, float* sink);
double FmaAvx512(int64_t iterations, float* sink);
double DotBF16Avx512(int64_t iterations, float* sink);
double DotInt8Avx2(int64_t iterations, float* sink);
double DotInt8Avx512(int64_t iterations, float* sink);
// An eighth of the rounds, each of which is as much.
double DotBF16Amx(int64_t iterations, float* sink);
double DotInt8Amx(int64_t iterations, float* sink);

}  // namespace rankine
