// What the machine can do at best, measured: the denominators of every benchmark. Virtual machines
// give different figures at different minutes, so measure these interleaved with what is judged by
// them.
#pragma once

#include <cstdint>

#include "kernels/base/stream.h"
#include "kernels/cpu/huge_buffer.h"

namespace rankine {

// Reads a buffer larger than the caches with the stream's threads.
class ReadProbe {
 public:
  explicit ReadProbe(int64_t bytes = 256 << 20);

  // Bytes per second of the fastest of several access patterns (a plain loop, several prefetched
  // streams, chunks handed out in turn), each run `repeats` times. A pass over the default buffer
  // takes about 10 ms at 25 GB/s.
  double Measure(Stream stream, int repeats = 1);

 private:
  HugeBuffer buffer_;
  int64_t bytes_;
};

// The best of `repeats` measurements over a fresh buffer: bytes per second.
double MeasureReadBandwidth(Stream stream, int repeats = 5);

// The kinds of multiply-add that products use: f32 FMA, bf16 pairs summed in f32, and int8 quads
// summed in i32.
enum class FlopKind : uint8_t { kF32, kBF16, kInt8 };

// Values that a processor may not find easy: magnitudes 1 to 2 and either sign in bf16, finite ones
// in any other dtype. The clock follows the power drawn: tile registers multiply zeros a fifth
// faster. `bytes` is even.
void FillOperands(void* data, int64_t bytes);

// Operations per second (a multiply-add counts as two) of the fastest instruction that
// this machine has for the kind (bf16 may be widened to f32), from registers, with all threads of
// the stream. Takes some 20 ms a repeat.
double MeasurePeakFlops(Stream stream, FlopKind kind, int repeats = 3);

}  // namespace rankine
