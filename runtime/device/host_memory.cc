#include "runtime/device/host_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"

namespace rankine {
namespace {

constexpr int64_t kPageBytes = 4096;
// Far above any machine, and far enough below 2^63 that roundings cannot overflow.
constexpr int64_t kMaxBytes = int64_t{1} << 56;

absl::Status OutOfMemory(int64_t bytes) {
  return absl::ResourceExhaustedError(
      absl::StrCat("can't allocate ", bytes,
                   " bytes of memory: free some, or ask for a smaller model or cache"));
}

// Pages straight from the system come zeroed, and are resident only once they are touched.
void* MapHugeAligned(int64_t bytes) {
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

}  // namespace

absl::StatusOr<void*> AllocateHostMemory(int64_t bytes) {
  if (bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat("can't allocate ", bytes, " bytes"));
  }
  if (bytes > kMaxBytes) return OutOfMemory(bytes);
  if (bytes >= kHugePageBytes) {
    void* data = MapHugeAligned(bytes);
    if (data == nullptr) return OutOfMemory(bytes);
    return data;
  }
  const int64_t size = RoundUp(std::max<int64_t>(bytes, 1), kHostAlignment);
  void* data = std::aligned_alloc(kHostAlignment, size);
  if (data == nullptr) return OutOfMemory(bytes);
  std::memset(data, 0, size);
  return data;
}

void FreeHostMemory(void* data, int64_t bytes) {
  if (bytes < kHugePageBytes) {
    std::free(data);
    return;
  }
  RK_CHECK(munmap(data, RoundUp(bytes, kPageBytes)) == 0);
}

}  // namespace rankine
