#include "runtime/device/device.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/device/host_memory.h"

namespace rankine {
namespace {

using ::testing::HasSubstr;

// Sets an environment variable for one test, and gives the old value back.
class ScopedIsa {
 public:
  explicit ScopedIsa(const char* value) {
    if (const char* old = std::getenv("RANKINE_ISA")) old_ = old, had_ = true;
    setenv("RANKINE_ISA", value, 1);
  }
  ~ScopedIsa() { had_ ? setenv("RANKINE_ISA", old_.c_str(), 1) : unsetenv("RANKINE_ISA"); }

 private:
  std::string old_;
  bool had_ = false;
};

std::unique_ptr<Device> MakeDevice() {
  absl::StatusOr<std::unique_ptr<Device>> device = MakeCpuDevice({.num_threads = 1});
  EXPECT_TRUE(device.ok()) << device.status();
  return std::move(*device);
}

TEST(CpuDeviceTest, MemoryIsAlignedAndZeroedAtEverySize) {
  std::unique_ptr<Device> device = MakeDevice();
  const int64_t huge = kHugePageBytes;
  for (int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{63}, int64_t{65}, int64_t{4097}, huge - 1,
                        huge, huge + 1, 3 * huge + 17}) {
    // Twice, so that memory handed back dirty is seen.
    for (int round = 0; round < 2; ++round) {
      absl::StatusOr<Buffer> buffer = Buffer::Allocate(*device, bytes);
      ASSERT_TRUE(buffer.ok()) << buffer.status();
      EXPECT_EQ(buffer->bytes(), bytes);
      const uintptr_t address = reinterpret_cast<uintptr_t>(buffer->data());
      EXPECT_EQ(address % (bytes >= huge ? huge : 64), 0u) << bytes;
      uint8_t* data = buffer->As<uint8_t>();
      int64_t nonzero = 0;
      for (int64_t i = 0; i < bytes; ++i) nonzero += data[i] != 0;
      EXPECT_EQ(nonzero, 0) << bytes;
      if (bytes > 0) std::memset(data, 0xff, bytes);
    }
  }
}

TEST(CpuDeviceTest, ImpossibleSizesAreErrors) {
  std::unique_ptr<Device> device = MakeDevice();
  EXPECT_EQ(Buffer::Allocate(*device, -1).status().code(), absl::StatusCode::kInvalidArgument);
  // More than an address space of 48 bits, and sizes whose rounding would overflow.
  for (int64_t bytes : {int64_t{1} << 50, std::numeric_limits<int64_t>::max()}) {
    absl::Status status = Buffer::Allocate(*device, bytes).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(bytes)));
  }
}

TEST(CpuDeviceTest, CopiesBothWays) {
  std::unique_ptr<Device> device = MakeDevice();
  Buffer buffer = std::move(*Buffer::Allocate(*device, 100));
  std::string sent(100, 'x'), received(100, ' ');
  device->CopyToDevice(buffer.data(), sent.data(), 100);
  device->Sync();
  device->CopyToHost(received.data(), buffer.data(), 100);
  EXPECT_EQ(received, sent);
  device->CopyToHost(nullptr, buffer.data(), 0);
}

TEST(BufferTest, MovesLeaveOneOwner) {
  std::unique_ptr<Device> device = MakeDevice();
  Buffer a = std::move(*Buffer::Allocate(*device, 8));
  void* data = a.data();
  Buffer b = std::move(a);
  EXPECT_EQ(b.data(), data);
  Buffer c;
  c = std::move(b);
  EXPECT_EQ(c.data(), data);
  EXPECT_EQ(c.bytes(), 8);
}

TEST(CpuDeviceTest, TakesTheInstructionSetAskedFor) {
  for (const OpTable* ops : CpuOpTables()) {
    auto device = MakeCpuDevice({.num_threads = 1, .isa = ops->name});
    ASSERT_TRUE(device.ok()) << device.status();
    EXPECT_EQ(&(*device)->ops(), ops);
  }
  auto ref = MakeCpuDevice({.num_threads = 1, .isa = "ref"});
  ASSERT_TRUE(ref.ok()) << ref.status();
  EXPECT_EQ(&(*ref)->ops(), &RefOps());
  EXPECT_EQ((*ref)->description(), "cpu (ref, 1 thread)");
}

TEST(CpuDeviceTest, OptionBeatsEnvironmentBeatsBest) {
  ScopedIsa isa("ref");
  auto from_environment = MakeCpuDevice({.num_threads = 1});
  ASSERT_TRUE(from_environment.ok()) << from_environment.status();
  EXPECT_EQ(&(*from_environment)->ops(), &RefOps());
  auto from_option = MakeCpuDevice({.num_threads = 1, .isa = "avx2"});
  ASSERT_TRUE(from_option.ok()) << from_option.status();
  EXPECT_STREQ((*from_option)->ops().name, "avx2");
}

TEST(CpuDeviceTest, UnknownInstructionSetListsWhatThereIs) {
  absl::Status status = MakeCpuDevice({.num_threads = 1, .isa = "avx9000"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'avx9000'"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("avx2"));
  ScopedIsa isa("neon");
  EXPECT_THAT(std::string(MakeCpuDevice({.num_threads = 1}).status().message()),
              HasSubstr("'neon' (from RANKINE_ISA)"));
}

TEST(CpuDeviceTest, ThreadCounts) {
  EXPECT_EQ(MakeCpuDevice({.num_threads = -1}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeCpuDevice({.num_threads = 1 << 20}).status().code(),
            absl::StatusCode::kInvalidArgument);
  auto device = MakeCpuDevice({.num_threads = 3, .isa = "ref"});
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_EQ((*device)->description(), "cpu (ref, 3 threads)");
  EXPECT_NE((*device)->stream().pool, nullptr);
}

}  // namespace
}  // namespace rankine
