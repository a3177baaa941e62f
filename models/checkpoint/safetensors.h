// Reading safetensors (https://github.com/huggingface/safetensors): an 8-byte length, a JSON header
// that gives each tensor its dtype, shape and span, then the data. One file, or shards with
// model.safetensors.index.json.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/dtype.h"
#include "models/files/file.h"

namespace rankine {

struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // as in the header: "F32", "BF16", "I64", ...
  std::vector<int64_t> shape;
  int64_t offset = 0;  // of the first byte, in its file
  int64_t bytes = 0;
  int shard = 0;  // index into SafetensorsSet's files; 0 for a single file
};

// What safetensors calls a dtype of ours: "F32", "BF16", "U8".
const char* SafetensorsDTypeName(DType dtype);
// False when values of that safetensors dtype are not ours to read.
bool FindSafetensorsDType(const std::string& name, DType* dtype);

// Bytes of one value of a safetensors dtype; 0 when the format has no such dtype.
int64_t SafetensorsDTypeSize(const std::string& dtype);

// The tensors of one file, in file order. Checked: header inside the file and at most 100 MB, known
// dtypes, shape x dtype = span, spans that follow each other from the header to the end of the file
// without overlap or hole, names that occur once. Every error names the file, and the tensor where
// there is one.
absl::StatusOr<std::vector<SafetensorsEntry>> ReadSafetensorsHeader(const ReadOnlyFile& file);

// All tensors of a model folder. Thread-safe: reads are pread calls.
class SafetensorsSet {
 public:
  // Opens `folder`/model.safetensors, or the shards that model.safetensors.index.json lists. The
  // index and the shards must agree tensor by tensor, and a shard name is a plain file name inside
  // the folder.
  // A pickle in place of safetensors gets an error that says how to convert it.
  static absl::StatusOr<SafetensorsSet> Open(const std::string& folder);
  // One file by its path.
  static absl::StatusOr<SafetensorsSet> OpenFile(const std::string& path);

  // By shard, then in file order.
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  // Null when there is none of that name. Valid as long as the set is.
  const SafetensorsEntry* Find(std::string_view name) const;
  // The bytes [begin, begin + size) of an entry.
  absl::Status Read(const SafetensorsEntry& entry, int64_t begin, int64_t size, void* out) const;

 private:
  absl::Status AddFile(const std::string& path);
  absl::Status OpenShards(const std::string& folder, const std::string& index_path);

  std::vector<ReadOnlyFile> files_;
  std::vector<SafetensorsEntry> entries_;
  std::unordered_map<std::string, size_t> by_name_;
};

}  // namespace rankine
