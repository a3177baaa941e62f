#include "kernels/cpu/hwy_baseline.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/machine_loops_simd.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
//
#include "kernels/cpu/machine_loops.h"

HWY_BEFORE_NAMESPACE();
namespace rankine {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using DU = hn::CappedTag<uint64_t, 8>;
using DF = hn::CappedTag<float, 16>;

constexpr int64_t kLine = 64;
constexpr int64_t kVectorBytes = HWY_LANES(uint8_t) < 64 ? HWY_LANES(uint8_t) : 64;

template <int kStreams>
uint64_t ReadStreams(const char* begin, int64_t bytes, int64_t prefetch) {
  const DU d;
  hn::Vec<DU> sum[kStreams][2];
  for (auto& pair : sum) pair[0] = pair[1] = hn::Zero(d);
  const int64_t run = bytes / kStreams;
  for (int64_t i = 0; i < run; i += kLine) {
#pragma GCC unroll 8
    for (int s = 0; s < kStreams; ++s) {
      const char* at = begin + s * run + i;
      if (prefetch != 0) __builtin_prefetch(at + prefetch, 0, 3);
#pragma GCC unroll 2
      for (int64_t v = 0; v < kLine / kVectorBytes; ++v) {
        sum[s][v] = hn::Xor(sum[s][v],
                            hn::Load(d, reinterpret_cast<const uint64_t*>(at + v * kVectorBytes)));
      }
    }
  }
  hn::Vec<DU> total = hn::Zero(d);
  for (auto& pair : sum) total = hn::Xor(total, hn::Xor(pair[0], pair[1]));
  return hn::GetLane(hn::SumOfLanes(d, total));
}

}  // namespace

uint64_t Read(const char* begin, int64_t bytes, int streams, int64_t prefetch) {
  switch (streams) {
    case 1:
      return ReadStreams<1>(begin, bytes, prefetch);
    case 2:
      return ReadStreams<2>(begin, bytes, prefetch);
    case 4:
      return ReadStreams<4>(begin, bytes, prefetch);
    default:
      return ReadStreams<8>(begin, bytes, prefetch);
  }
}

// 12 chains: two FMA units with a latency of up to 5 cycles need 10, and 16 registers hold 12 and
// two operands.
double Fma(int64_t iterations, float* sink) {
  constexpr int kChains = 12;
  const DF d;
  hn::Vec<DF> sum[kChains];
  for (auto& chain : sum) chain = hn::Zero(d);
  const auto a = hn::Set(d, sink[0]), b = hn::Set(d, sink[1]);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sum[c] = hn::MulAdd(a, b, sum[c]);
  }
  auto total = hn::Zero(d);
  for (const auto& chain : sum) total = hn::Add(total, chain);
  sink[2] = hn::GetLane(hn::SumOfLanes(d, total));
  return 2.0 * kChains * static_cast<double>(hn::Lanes(d)) * static_cast<double>(iterations);
}

}  // namespace HWY_NAMESPACE
}  // namespace rankine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rankine {

uint64_t ReadAvx2(const char* begin, int64_t bytes, int streams, int64_t prefetch) {
  return N_AVX2::Read(begin, bytes, streams, prefetch);
}
uint64_t ReadAvx512(const char* begin, int64_t bytes, int streams, int64_t prefetch) {
  return N_AVX3::Read(begin, bytes, streams, prefetch);
}
double FmaAvx2(int64_t iterations, float* sink) { return N_AVX2::Fma(iterations, sink); }
double FmaAvx512(int64_t iterations, float* sink) { return N_AVX3::Fma(iterations, sink); }

}  // namespace rankine
#endif  // HWY_ONCE
