// How much of the processor this process gets, which tells a figure that was measured on a busy
// machine.
#pragma once

#include "kernels/base/stream.h"

namespace rankine {

// Below this a measured time is other programs' as well.
inline constexpr double kIdleShare = 0.95;

// CPU time over wall time of the stream's slowest thread while all of them are busy for 20 ms of
// CPU time: near 1 on an idle machine, 0.5 where another program wants the same core. What a
// hypervisor takes away without saying so is not seen.
double OwnShare(Stream stream);

}  // namespace rankine
