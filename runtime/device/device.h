// A device: memory, and the table of its ops. The CPU is one; a CUDA device will be another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/base/stream.h"
#include "kernels/op_table.h"

namespace rankine {

class Device {
 public:
  virtual ~Device() = default;
  // Zeroed memory aligned to 64 bytes (huge pages for large buffers where the system allows).
  // kResourceExhausted when there is not enough.
  virtual absl::StatusOr<void*> Allocate(int64_t bytes) = 0;
  virtual void Free(void* data, int64_t bytes) = 0;
  virtual void CopyToDevice(void* device, const void* host, int64_t bytes) = 0;
  virtual void CopyToHost(void* host, const void* device, int64_t bytes) = 0;
  // Returns when all work given to the device's stream is done.
  virtual void Sync() = 0;
  virtual const OpTable& ops() const = 0;
  // The stream of the device's owner thread. One forward pass at a time.
  virtual Stream stream() = 0;
  // "cpu (avx512-bf16, 2 threads)".
  virtual std::string description() const = 0;
};

// Owns memory of a device. Move-only.
class Buffer {
 public:
  Buffer() = default;
  static absl::StatusOr<Buffer> Allocate(Device& device, int64_t bytes);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  void* data() const { return data_; }
  template <class T>
  T* As() const {
    return static_cast<T*>(data_);
  }
  int64_t bytes() const { return bytes_; }

 private:
  Device* device_ = nullptr;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

struct CpuOptions {
  int num_threads = 0;  // 0 = the cores this process may run on
  // Threads of the pool stay on cores of their own; absent: where the process was given cores.
  std::optional<bool> pin_threads;
  std::string isa;  // "avx2", "avx512", "avx512-vnni", "avx512-bf16", "amx" or "ref"; empty = the
                    // best, or RANKINE_ISA
};

// kInvalidArgument when the machine can't run the instruction set asked for.
absl::StatusOr<std::unique_ptr<Device>> MakeCpuDevice(const CpuOptions& options = {});

}  // namespace rankine
