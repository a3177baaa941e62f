// Writing one core in another encoding, a run of rows at a time, in parallel over rows.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "kernels/cpu/thread_pool.h"
#include "models/checkpoint/checkpoint.h"
#include "models/checkpoint/safetensors_writer.h"
#include "models/encode/quantise.h"

namespace rankine {

// `to` has the legs of `from`, its own encoding and the tensors to write; both have two legs or
// more. Where both have the same block encoding the codes are carried over, not fitted again.
struct CoreJob {
  Core from, to;

  bool carries_codes() const { return from.encoding == to.encoding; }
};

// The tensors that a core in memory's encoding takes, named `name`.ROLE (or `name` itself for float
// cores): fills core->tensors.
void NameTensors(const std::string& name, Core* core);

// What to declare for job.to, in the order in which its bytes will come.
std::vector<TensorSpec> SpecsOf(const Core& core);

// Called with the bytes written.
using BytesWritten = std::function<void(int64_t bytes)>;

// Reads job.from and appends job.to. `error` (may be null) gets what encoding changed. Errors name
// the tensor.
absl::Status WriteCore(const Checkpoint& source, const CoreJob& job, ThreadPool& pool,
                       SafetensorsWriter* writer, const BytesWritten& progress, EncodeError* error);

}  // namespace rankine
