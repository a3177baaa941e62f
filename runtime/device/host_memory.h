// Zeroed, aligned memory of the host, in huge pages where the system allows: weights and the KV
// cache are read from end to end for every token, and with 4 KiB pages the reads stall on address
// translation and the hardware's prefetch stops at each page.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"

namespace rankine {

// Alignment of small allocations; large ones begin on a huge page.
inline constexpr int64_t kHostAlignment = 64;
inline constexpr int64_t kHugePageBytes = int64_t{2} << 20;

// At least one byte is allocated. kInvalidArgument: bytes < 0; kResourceExhausted: the system
// refuses.
absl::StatusOr<void*> AllocateHostMemory(int64_t bytes);
// `bytes` as allocated.
void FreeHostMemory(void* data, int64_t bytes);

}  // namespace rankine
