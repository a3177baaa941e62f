// Writing safetensors without holding the tensors: declare all of them, then append the bytes of
// each.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/dtype.h"

namespace rankine {

struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
};

// What transformers uses by default.
inline constexpr int64_t kDefaultShardBytes = int64_t{5'000'000'000};

// Writes `folder`/model.safetensors, or shards with an index when the data exceeds
// `max_shard_bytes` (a tensor is never split). The same declarations and data give the same bytes.
// Within a file the tensors of wider dtypes come first, so that each is aligned for its dtype. One
// thread at a time.
class SafetensorsWriter {
 public:
  static absl::StatusOr<SafetensorsWriter> Create(const std::string& folder,
                                                  const std::vector<TensorSpec>& tensors,
                                                  int64_t max_shard_bytes = kDefaultShardBytes);
  SafetensorsWriter(SafetensorsWriter&&) noexcept;
  SafetensorsWriter& operator=(SafetensorsWriter&&) noexcept;
  ~SafetensorsWriter();  // closes the files; without Finish they are not complete

  // The next `bytes` bytes of the declared tensor `name`; tensors may come in any order. Errors: a
  // name that was not declared, more bytes than declared, a disk that is full (all named).
  absl::Status Append(const std::string& name, const void* data, int64_t bytes);

  // Writes the index, where there are shards, and syncs all to disk. An error names the first
  // tensor that is not complete.
  absl::Status Finish();

 private:
  struct State;
  explicit SafetensorsWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace rankine
