#include "models/checkpoint/gguf_cursor.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace rankine {
namespace {

// Headers are a few MB of mostly tiny items: one pread per 256 KiB makes the calls cheap.
constexpr int64_t kBufferBytes = int64_t{256} << 10;

std::string Prefixed(const std::string& context, std::string_view message) {
  return absl::StrCat(context, ": ", absl::string_view(message.data(), message.size()));
}

}  // namespace

void GgufCursor::Fail(std::string_view message) {
  if (ok()) status_ = absl::InvalidArgumentError(Prefixed(context_, message));
}

void GgufCursor::FailUnimplemented(std::string_view message) {
  if (ok()) status_ = absl::UnimplementedError(Prefixed(context_, message));
}

void GgufCursor::Read(int64_t size, void* out) {
  if (!ok() || size == 0) return;
  if (size > remaining()) {
    Fail(absl::StrCat("the file is truncated: ", size, " bytes expected at offset ", offset_, ", ",
                      remaining(), " left; download or copy it again"));
    return;
  }
  const bool buffered = offset_ >= buffer_offset_ &&
                        offset_ + size <= buffer_offset_ + static_cast<int64_t>(buffer_.size());
  if (size > kBufferBytes) {
    status_ = file_.ReadAt(offset_, size, out);
  } else {
    if (!buffered) status_ = Fill(std::min(kBufferBytes, remaining()));
    if (ok()) std::memcpy(out, buffer_.data() + (offset_ - buffer_offset_), size);
  }
  if (ok()) offset_ += size;
}

absl::Status GgufCursor::Fill(int64_t size) {
  buffer_.resize(size);
  buffer_offset_ = offset_;
  return file_.ReadAt(offset_, size, buffer_.data());
}

std::vector<uint8_t> GgufCursor::ReadBytes(int64_t size) {
  std::vector<uint8_t> bytes;
  if (size < 0 || size > remaining()) {
    Fail(absl::StrCat(size, " bytes are announced at offset ", offset_, ", the file has ",
                      remaining(), " left"));
  }
  if (!ok()) return bytes;
  bytes.resize(size);
  Read(size, bytes.data());
  return bytes;
}

std::string GgufCursor::ReadString() {
  const uint64_t size = ReadU64();
  std::string text;
  if (ok() && size > static_cast<uint64_t>(remaining())) {
    Fail(absl::StrCat("a string of ", size, " bytes is announced at offset ", offset_,
                      ", the file has ", remaining(), " left"));
  }
  if (!ok()) return text;
  text.resize(size);
  Read(static_cast<int64_t>(size), text.data());
  return text;
}

int64_t GgufCursor::ReadCount(int64_t min_item_bytes, std::string_view of_what) {
  const uint64_t count = ReadU64();
  if (ok() && count > static_cast<uint64_t>(remaining() / min_item_bytes)) {
    Fail(absl::StrCat(count, " ", absl::string_view(of_what.data(), of_what.size()),
                      " are announced, the file has only ", remaining(), " bytes left"));
  }
  return ok() ? static_cast<int64_t>(count) : 0;
}

}  // namespace rankine
