// Running a plan allocates nothing: counted by the program's own operator new.
#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/runtime/factor/group_testing.h"

namespace {

std::atomic<int64_t> allocations{0};

void* Counted(std::size_t size, std::size_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* data = nullptr;
  if (posix_memalign(&data, std::max(alignment, sizeof(void*)), std::max<std::size_t>(size, 1)) !=
      0)
    std::abort();
  return data;
}

}  // namespace

void* operator new(std::size_t size) { return Counted(size, alignof(std::max_align_t)); }
void* operator new[](std::size_t size) { return Counted(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t a) {
  return Counted(size, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t size, std::align_val_t a) {
  return Counted(size, static_cast<std::size_t>(a));
}
// The nothrow forms (std::stable_sort's buffer) would otherwise be the sanitizer's own.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return Counted(size, alignof(std::max_align_t));
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  return Counted(size, alignof(std::max_align_t));
}
// Inlined into a caller without operator new beside it, free looks mismatched to g++.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
#pragma GCC diagnostic pop

namespace rankine {
namespace {

class AllocationTest : public GroupTest {};

TEST_F(AllocationTest, TheCounterCounts) {
  const int64_t before = allocations;
  const std::vector<int> some(100);
  EXPECT_GT(allocations, before);
}

TEST_F(AllocationTest, RunningAPlanAllocatesNothing) {
  FactoredMatrix qlr = RandomDense(&source_, "q", 64, 256, kInt4, 2);
  qlr.terms.push_back(RandomSvd(&source_, "lr", 64, 256, 16, kBf16, 3).terms[0]);
  qlr.input_transforms = {RandomHadamard(&source_, "h", 256, false, 6)};
  const FactoredMatrix mpo = RandomMpo(&source_, "m", {8, 8}, {4, 64}, 32, kBf16, 11);
  const LinearGroup group = Load({qlr, mpo});
  constexpr int64_t kRows = 5;
  const Buffer dense = *Buffer::Allocate(*device_, kRows * 256 * 2);
  const Buffer y = *Buffer::Allocate(*device_, kRows * group.output_columns() * 4);
  const Buffer workspace = *Buffer::Allocate(*device_, group.workspace_bytes(kRows));
  ASSERT_FALSE(group.needs_quantized());  // Q reads the transformed input
  const GroupInput input{.dense = {.data = dense.data(),
                                   .dtype = group.compute(),
                                   .rows = kRows,
                                   .cols = 256,
                                   .stride = 256}};
  for (const int64_t rows : {int64_t{1}, kRows}) {
    GroupInput x = input;
    x.dense.rows = rows;
    const MatrixView out{.data = y.data(),
                         .rows = rows,
                         .cols = group.output_columns(),
                         .stride = group.output_columns()};
    group.Run(*device_, x, out, workspace.data(), false);  // kernels may size their scratch once
    const int64_t before = allocations;
    group.Run(*device_, x, out, workspace.data(), true);
    EXPECT_EQ(allocations, before) << rows << " tokens";
  }
}

}  // namespace
}  // namespace rankine
