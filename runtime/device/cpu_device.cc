// The CPU as a device: host memory, the op table of one instruction set, a pool of threads.
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/thread_pool.h"
#include "runtime/device/device.h"
#include "runtime/device/host_memory.h"

namespace rankine {
namespace {

// More threads than any machine this runs on has cores: a larger number is a typing error.
constexpr int kMaxThreads = 1024;

class CpuDevice final : public Device {
 public:
  CpuDevice(const OpTable& ops, int num_threads, bool pin) : ops_(ops), pool_(num_threads, pin) {}

  absl::StatusOr<void*> Allocate(int64_t bytes) override { return memory_.Allocate(bytes); }
  void Free(void* data, int64_t bytes) override { memory_.Free(data, bytes); }
  void CopyToDevice(void* device, const void* host, int64_t bytes) override {
    if (bytes > 0) std::memcpy(device, host, bytes);
  }
  void CopyToHost(void* host, const void* device, int64_t bytes) override {
    if (bytes > 0) std::memcpy(host, device, bytes);
  }
  // Ops return when they are done.
  void Sync() override {}
  const OpTable& ops() const override { return ops_; }
  Stream stream() override { return Stream{.pool = &pool_}; }
  std::string description() const override {
    const int n = pool_.num_threads();
    return absl::StrCat("cpu (", ops_.name, ", ", n, n == 1 ? " thread)" : " threads)");
  }

 private:
  HostMemory memory_;
  const OpTable& ops_;
  ThreadPool pool_;
};

absl::StatusOr<const OpTable*> ChooseOps(const std::string& option) {
  std::string name = option;
  const char* variable = std::getenv("RANKINE_ISA");
  if (name.empty() && variable != nullptr) name = variable;
  if (name.empty()) return &BestCpuOps();
  if (name == RefOps().name) return &RefOps();
  if (const OpTable* ops = FindCpuOps(name); ops != nullptr) return ops;
  std::string known;
  for (const OpTable* ops : CpuOpTables()) absl::StrAppend(&known, ops->name, ", ");
  return absl::InvalidArgumentError(
      absl::StrCat("instruction set '", name, "'", option.empty() ? " (from RANKINE_ISA)" : "",
                   " is unknown or not available here; this machine has: ", known, RefOps().name));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> MakeCpuDevice(const CpuOptions& options) {
  if (options.num_threads < 0 || options.num_threads > kMaxThreads) {
    return absl::InvalidArgumentError(absl::StrCat("the number of threads is ", options.num_threads,
                                                   "; it must be 0 (all cores) to ", kMaxThreads));
  }
  absl::StatusOr<const OpTable*> ops = ChooseOps(options.isa);
  if (!ops.ok()) return ops.status();
  const int threads = options.num_threads > 0 ? options.num_threads : DefaultNumThreads();
  return std::make_unique<CpuDevice>(**ops, threads, options.pin_threads.value_or(HasOwnCores()));
}

}  // namespace rankine
