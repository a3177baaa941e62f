#include <utility>

#include "runtime/device/device.h"

namespace rankine {

absl::StatusOr<Buffer> Buffer::Allocate(Device& device, int64_t bytes) {
  absl::StatusOr<void*> data = device.Allocate(bytes);
  if (!data.ok()) return data.status();
  Buffer buffer;
  buffer.device_ = &device;
  buffer.data_ = *data;
  buffer.bytes_ = bytes;
  return buffer;
}

Buffer::Buffer(Buffer&& other) noexcept
    : device_(std::exchange(other.device_, nullptr)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Buffer::~Buffer() {
  if (device_ != nullptr) device_->Free(data_, bytes_);
}

}  // namespace rankine
