#include "runtime/device/device.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

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
  for (int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{63}, int64_t{65}, kMinSlabBytes - 1,
                        kMinSlabBytes, kMinSlabBytes + 1, kMaxSlabBytes - 1, kMaxSlabBytes,
                        kMaxSlabBytes + 1, 3 * kMaxSlabBytes + 17}) {
    // Twice, so that memory handed back dirty is seen.
    for (int round = 0; round < 2; ++round) {
      absl::StatusOr<Buffer> buffer = Buffer::Allocate(*device, bytes);
      ASSERT_TRUE(buffer.ok()) << buffer.status();
      EXPECT_EQ(buffer->bytes(), bytes);
      const uintptr_t address = reinterpret_cast<uintptr_t>(buffer->data());
      EXPECT_EQ(address % (bytes > kMaxSlabBytes ? kHugePageBytes : 64), 0u) << bytes;
      uint8_t* data = buffer->As<uint8_t>();
      int64_t nonzero = 0;
      for (int64_t i = 0; i < bytes; ++i) nonzero += data[i] != 0;
      EXPECT_EQ(nonzero, 0) << bytes;
      if (bytes > 0) std::memset(data, 0xff, bytes);
    }
  }
}

// Allocations of random sizes are alive together: none overlaps, all start zeroed, also those cut
// from slabs that were partly freed.
TEST(HostMemoryTest, LiveAllocationsNeverOverlap) {
  HostMemory memory;
  struct Block {
    uint8_t* data;
    int64_t bytes;
    uint8_t mark;
  };
  std::vector<Block> live;
  std::mt19937 random(1);
  auto free_one = [&](size_t i) {
    const Block block = live[i];
    live.erase(live.begin() + i);
    // Ends and a stride: enough to see a neighbour's mark.
    for (int64_t b = 0; b < block.bytes; b += 509) ASSERT_EQ(block.data[b], block.mark);
    ASSERT_EQ(block.data[block.bytes - 1], block.mark);
    memory.Free(block.data, block.bytes);
  };
  for (int i = 0; i < 600; ++i) {
    if (live.size() > 20 || (!live.empty() && random() % 3 == 0)) {
      free_one(random() % live.size());
    } else {
      const int64_t limit = i % 10 == 0 ? 2 * kMaxSlabBytes : int64_t{2} << 20;
      const int64_t bytes = 1 + random() % limit;
      absl::StatusOr<void*> data = memory.Allocate(bytes);
      ASSERT_TRUE(data.ok()) << data.status();
      const Block block = {static_cast<uint8_t*>(*data), bytes, static_cast<uint8_t>(1 + i % 255)};
      for (int64_t b = 0; b < bytes; b += 509) ASSERT_EQ(block.data[b], 0);
      std::memset(block.data, block.mark, bytes);
      live.push_back(block);
    }
    if (HasFatalFailure()) return;
  }
  while (!live.empty()) free_one(0);
}

TEST(HostMemoryTest, MatricesOfAModelShareHugePages) {
  HostMemory memory;
  std::vector<char*> blocks;
  for (int i = 0; i < 4; ++i) blocks.push_back(static_cast<char*>(*memory.Allocate(600'000)));
  for (int i = 1; i < 4; ++i) EXPECT_LT(blocks[i] - blocks[i - 1], 600'000 + 4096);
  for (char* block : blocks) memory.Free(block, 600'000);
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
