#include "runtime/device/host_memory.h"

#include <sanitizer/asan_interface.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"

namespace rankine {
namespace {

constexpr int64_t kPageBytes = 4096;
// Far above any machine, and far enough below 2^63 that roundings cannot overflow.
constexpr int64_t kMaxBytes = int64_t{1} << 56;
// Between allocations of a slab, poisoned for AddressSanitizer: an overrun is reported.
constexpr int64_t kSlabGap = 64;

absl::Status OutOfMemory(int64_t bytes) {
  return absl::ResourceExhaustedError(
      absl::StrCat("can't allocate ", bytes,
                   " bytes of memory: free some, or ask for a smaller model or cache"));
}

// Pages straight from the system come zeroed, and are resident only once they are touched.
char* MapHugeAligned(int64_t bytes) {
  const int64_t length = RoundUp(bytes, kPageBytes);
  const int64_t mapped = length + kHugePageBytes;
  void* base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  char* begin = static_cast<char*>(base);
  const int64_t address = static_cast<int64_t>(reinterpret_cast<uintptr_t>(begin));
  const int64_t head = RoundUp(address, kHugePageBytes) - address;
  char* data = begin + head;
  if (head > 0) munmap(begin, head);
  if (const int64_t tail = mapped - head - length; tail > 0) munmap(data + length, tail);
  // Only advice: where the system has no huge pages the memory is as good, a little slower.
  madvise(data, length, MADV_HUGEPAGE);
  return data;
}

void Unmap(void* data, int64_t bytes) { RK_CHECK(munmap(data, RoundUp(bytes, kPageBytes)) == 0); }

// Gives the whole pages of a range back while its slab lives on.
void ReturnPages(char* data, int64_t bytes) {
  const int64_t address = static_cast<int64_t>(reinterpret_cast<uintptr_t>(data));
  const int64_t head = RoundUp(address, kPageBytes) - address;
  const int64_t length = (bytes - head) / kPageBytes * kPageBytes;
  if (length > 0) madvise(data + head, length, MADV_DONTNEED);
}

void* AllocateFromHeap(int64_t bytes) {
  const int64_t size = RoundUp(std::max<int64_t>(bytes, 1), kHostAlignment);
  void* data = std::aligned_alloc(kHostAlignment, size);
  if (data != nullptr) std::memset(data, 0, size);
  return data;
}

bool IsSlabSize(int64_t bytes) { return bytes >= kMinSlabBytes && bytes <= kMaxSlabBytes; }

}  // namespace

HostMemory::~HostMemory() { RK_CHECK(slabs_.empty()); }

absl::StatusOr<void*> HostMemory::Allocate(int64_t bytes) {
  if (bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat("can't allocate ", bytes, " bytes"));
  }
  if (bytes > kMaxBytes) return OutOfMemory(bytes);
  void* data = IsSlabSize(bytes)       ? AllocateFromSlab(bytes)
               : bytes < kMinSlabBytes ? AllocateFromHeap(bytes)
                                       : MapHugeAligned(bytes);
  if (data == nullptr) return OutOfMemory(bytes);
  return data;
}

void HostMemory::Free(void* data, int64_t bytes) {
  if (IsSlabSize(bytes)) {
    FreeToSlab(data, bytes);
  } else if (bytes < kMinSlabBytes) {
    std::free(data);
  } else {
    Unmap(data, bytes);
  }
}

void* HostMemory::AllocateFromSlab(int64_t bytes) {
  MutexLock lock(mutex_);
  const int64_t size = RoundUp(bytes, kHostAlignment) + kSlabGap;
  if (current_ == nullptr || slabs_[current_].used_bytes + size > kSlabBytes) {
    char* slab = MapHugeAligned(kSlabBytes);
    if (slab == nullptr) return nullptr;
    ASAN_POISON_MEMORY_REGION(slab, kSlabBytes);
    current_ = slab;
    slabs_[slab] = Slab{};
  }
  // Never cut from what was freed: memory that was never used is still zero.
  Slab& slab = slabs_[current_];
  char* data = current_ + slab.used_bytes;
  slab.used_bytes += size;
  ++slab.live;
  ASAN_UNPOISON_MEMORY_REGION(data, bytes);
  return data;
}

void HostMemory::FreeToSlab(void* data, int64_t bytes) {
  MutexLock lock(mutex_);
  auto slab = std::prev(slabs_.upper_bound(static_cast<char*>(data)));
  ASAN_POISON_MEMORY_REGION(data, bytes);
  if (--slab->second.live > 0) {
    ReturnPages(static_cast<char*>(data), bytes);
    return;
  }
  if (slab->first == current_) current_ = nullptr;
  ASAN_UNPOISON_MEMORY_REGION(slab->first, kSlabBytes);
  Unmap(slab->first, kSlabBytes);
  slabs_.erase(slab);
}

}  // namespace rankine
