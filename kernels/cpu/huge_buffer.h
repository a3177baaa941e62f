// Memory in huge pages where the system has them: weights are streamed, and a page walk every 4 kB
// costs bandwidth.
#pragma once

#include <sys/mman.h>

#include <cstdint>

#include "kernels/base/check.h"
#include "kernels/base/math.h"

namespace rankine {

// Owns zeroed memory; pages are given by the system when first written.
class HugeBuffer {
 public:
  explicit HugeBuffer(int64_t bytes) : bytes_(RoundUp(bytes + 1, kHugePage)) {
    data_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    RK_CHECK(data_ != MAP_FAILED);
    madvise(data_, bytes_, MADV_HUGEPAGE);  // advice: without it the buffer is only slower
  }
  ~HugeBuffer() { munmap(data_, bytes_); }
  HugeBuffer(const HugeBuffer&) = delete;
  HugeBuffer& operator=(const HugeBuffer&) = delete;

  char* data() const { return static_cast<char*>(data_); }

 private:
  static constexpr int64_t kHugePage = 2 << 20;
  void* data_;
  int64_t bytes_;
};

}  // namespace rankine
