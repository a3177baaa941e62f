// Reads a file front to back in checked steps; knows nothing of GGUF but how it writes numbers and
// strings.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "models/files/file.h"

namespace rankine {

// The first failure sticks: later reads return zeros and do nothing, so a parser checks ok() once
// per item. No allocation is larger than what is left of the file. Not thread-safe; the file must
// outlive it.
class GgufCursor {
 public:
  explicit GgufCursor(const ReadOnlyFile& file) : file_(file) {}

  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }
  int64_t offset() const { return offset_; }
  int64_t remaining() const { return file_.size() - offset_; }

  // Names what is being read, for messages: "key 'general.name'".
  void set_context(std::string context) { context_ = std::move(context); }
  // Keeps the first failure; prefixes `message` with the context.
  void Fail(std::string_view message);
  void FailUnimplemented(std::string_view message);

  uint32_t ReadU32() { return ReadScalar<uint32_t>(); }
  uint64_t ReadU64() { return ReadScalar<uint64_t>(); }
  // u64 length, then that many bytes.
  std::string ReadString();
  std::vector<uint8_t> ReadBytes(int64_t size);
  // A count of items that take at least `min_item_bytes` each; 0 and a failure when they cannot fit
  // in the file.
  int64_t ReadCount(int64_t min_item_bytes, std::string_view of_what);

 private:
  template <class T>
  T ReadScalar() {
    static_assert(std::endian::native == std::endian::little);
    T value{};
    Read(sizeof(T), &value);
    return value;
  }
  void Read(int64_t size, void* out);
  absl::Status Fill(int64_t size);

  const ReadOnlyFile& file_;
  absl::Status status_;
  std::string context_ = "header";
  int64_t offset_ = 0;
  std::vector<uint8_t> buffer_;  // the file from buffer_offset_ on
  int64_t buffer_offset_ = 0;
};

}  // namespace rankine
