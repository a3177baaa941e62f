// Zeroed, aligned memory of the host, in huge pages where the system allows: weights and the KV
// cache are read from end to end for every token, and with 4 KiB pages the reads stall on address
// translation and the hardware's prefetch stops at each page.
//
// Matrices of a small model are themselves smaller than a huge page, so medium allocations are cut
// from slabs one after the other. A slab goes back to the system with its last allocation: memory
// of a model is taken together and given back together.
#pragma once

#include <cstdint>
#include <map>

#include "absl/status/statusor.h"
#include "kernels/base/mutex.h"

namespace rankine {

// Alignment of every allocation; large ones begin on a huge page.
inline constexpr int64_t kHostAlignment = 64;
inline constexpr int64_t kHugePageBytes = int64_t{2} << 20;
// Below kMinSlabBytes: the C library's heap. Above kMaxSlabBytes: a mapping of its own. Between: a
// slab, of which the bounds leave at most a quarter unused (and unused pages are never resident).
inline constexpr int64_t kMinSlabBytes = int64_t{32} << 10;
inline constexpr int64_t kMaxSlabBytes = int64_t{8} << 20;
inline constexpr int64_t kSlabBytes = int64_t{32} << 20;

// Thread-safe.
class HostMemory {
 public:
  HostMemory() = default;
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;
  // Everything has been freed.
  ~HostMemory();

  // At least one byte is allocated. kInvalidArgument: bytes < 0; kResourceExhausted: the system
  // refuses.
  absl::StatusOr<void*> Allocate(int64_t bytes) RK_EXCLUDES(mutex_);
  // `bytes` as allocated.
  void Free(void* data, int64_t bytes) RK_EXCLUDES(mutex_);

 private:
  struct Slab {
    int64_t used_bytes = 0;
    int64_t live = 0;  // allocations
  };

  void* AllocateFromSlab(int64_t bytes) RK_EXCLUDES(mutex_);
  void FreeToSlab(void* data, int64_t bytes) RK_EXCLUDES(mutex_);

  Mutex mutex_;
  std::map<char*, Slab> slabs_ RK_GUARDED_BY(mutex_);  // by first byte
  char* current_ RK_GUARDED_BY(mutex_) = nullptr;      // the slab that allocations are cut from
};

}  // namespace rankine
