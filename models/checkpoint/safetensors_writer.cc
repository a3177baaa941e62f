#include "models/checkpoint/safetensors_writer.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/math.h"
#include "models/checkpoint/safetensors.h"
#include "models/files/json_text.h"
#include "models/files/output_file.h"
#include "models/status_macros.h"

namespace rankine {

// A tensor and its place. Part of State, hence not in the unnamed namespace.
struct TensorSlot {
  TensorSpec spec;
  int shard = 0;
  int64_t offset = 0;  // of the first byte, in its file
  int64_t bytes = 0;
  int64_t written = 0;
};

namespace {

// The data begins at a multiple of a cache line: direct I/O and SIMD loads of a mapped file like
// it.
constexpr int64_t kDataAlignment = 64;

absl::StatusOr<int64_t> BytesOf(const TensorSpec& spec) {
  int64_t bytes = static_cast<int64_t>(SizeOf(spec.dtype));
  for (const int64_t extent : spec.shape) {
    if (extent < 0 || !CheckedMul(bytes, extent, &bytes)) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", spec.name, ": bad shape"));
    }
  }
  return bytes;
}

// Fills shards in the order of declaration; returns their number.
int AssignShards(int64_t max_shard_bytes, std::vector<TensorSlot>* slots) {
  int shard = 0;
  int64_t used = 0;
  for (TensorSlot& slot : *slots) {
    if (used > 0 && slot.bytes > max_shard_bytes - used) {
      ++shard;
      used = 0;
    }
    slot.shard = shard;
    used += slot.bytes;
  }
  return shard + 1;
}

std::string FileName(int shard, int num_shards) {
  if (num_shards == 1) return "model.safetensors";
  return absl::StrFormat("model-%05d-of-%05d.safetensors", shard + 1, num_shards);
}

// Assigns offsets within a shard and returns the text before its data.
std::string LayOut(int shard, std::vector<TensorSlot>* slots) {
  std::vector<TensorSlot*> in_file;
  for (TensorSlot& slot : *slots) {
    if (slot.shard == shard) in_file.push_back(&slot);
  }
  std::stable_sort(in_file.begin(), in_file.end(), [](const TensorSlot* a, const TensorSlot* b) {
    return SizeOf(a->spec.dtype) > SizeOf(b->spec.dtype);
  });
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};  // transformers refuses files without it
  int64_t offset = 0;
  for (TensorSlot* slot : in_file) {
    slot->offset = offset;
    offset += slot->bytes;
    header[slot->spec.name] = {{"dtype", SafetensorsDTypeName(slot->spec.dtype)},
                               {"shape", slot->spec.shape},
                               {"data_offsets", {slot->offset, offset}}};
  }
  std::string text = DumpJson(header);
  const int64_t begin = RoundUp(8 + static_cast<int64_t>(text.size()), kDataAlignment);
  text.resize(static_cast<size_t>(begin - 8), ' ');
  for (TensorSlot* slot : in_file) slot->offset += begin;
  const uint64_t length = text.size();
  std::string prefix(reinterpret_cast<const char*>(&length), 8);
  return prefix + text;
}

}  // namespace

struct SafetensorsWriter::State {
  std::string folder;
  std::vector<TensorSlot> slots;
  std::unordered_map<std::string, size_t> by_name;
  std::vector<OutputFile> files;
};

SafetensorsWriter::SafetensorsWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
SafetensorsWriter::SafetensorsWriter(SafetensorsWriter&&) noexcept = default;
SafetensorsWriter& SafetensorsWriter::operator=(SafetensorsWriter&&) noexcept = default;
SafetensorsWriter::~SafetensorsWriter() = default;

absl::StatusOr<SafetensorsWriter> SafetensorsWriter::Create(const std::string& folder,
                                                            const std::vector<TensorSpec>& tensors,
                                                            int64_t max_shard_bytes) {
  auto state = std::make_unique<State>();
  state->folder = folder;
  for (const TensorSpec& spec : tensors) {
    RK_ASSIGN_OR_RETURN(const int64_t bytes, BytesOf(spec));
    if (spec.name.empty() || spec.name == "__metadata__" ||
        !state->by_name.emplace(spec.name, state->slots.size()).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor \"", spec.name, "\": the name is reserved or declared twice"));
    }
    state->slots.push_back(TensorSlot{.spec = spec, .bytes = bytes});
  }
  const int num_shards = AssignShards(max_shard_bytes, &state->slots);
  for (int shard = 0; shard < num_shards; ++shard) {
    const std::string prefix = LayOut(shard, &state->slots);
    RK_ASSIGN_OR_RETURN(OutputFile file,
                        OutputFile::Create(absl::StrCat(folder, "/", FileName(shard, num_shards))));
    RK_RETURN_IF_ERROR(file.WriteAt(0, prefix.data(), static_cast<int64_t>(prefix.size())));
    state->files.push_back(std::move(file));
  }
  return SafetensorsWriter(std::move(state));
}

absl::Status SafetensorsWriter::Append(const std::string& name, const void* data, int64_t bytes) {
  RK_CHECK(bytes >= 0);
  const auto found = state_->by_name.find(name);
  if (found == state_->by_name.end()) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", name, " was not declared"));
  }
  TensorSlot& slot = state_->slots[found->second];
  if (bytes > slot.bytes - slot.written) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", name, ": ", slot.written + bytes,
                                                   " bytes written, ", slot.bytes, " declared"));
  }
  RK_RETURN_IF_ERROR(state_->files[static_cast<size_t>(slot.shard)].WriteAt(
      slot.offset + slot.written, data, bytes));
  slot.written += bytes;
  return absl::OkStatus();
}

absl::Status SafetensorsWriter::Finish() {
  int64_t total = 0;
  nlohmann::json map = nlohmann::json::object();
  const int num_shards = static_cast<int>(state_->files.size());
  for (const TensorSlot& slot : state_->slots) {
    if (slot.written != slot.bytes) {
      return absl::FailedPreconditionError(absl::StrCat("tensor ", slot.spec.name, ": ",
                                                        slot.written, " bytes written, ",
                                                        slot.bytes, " declared"));
    }
    total += slot.bytes;
    map[slot.spec.name] = FileName(slot.shard, num_shards);
  }
  for (OutputFile& file : state_->files) RK_RETURN_IF_ERROR(file.Sync());
  if (num_shards == 1) return absl::OkStatus();
  const nlohmann::ordered_json index = {{"metadata", {{"total_size", total}}}, {"weight_map", map}};
  return WriteNewFile(absl::StrCat(state_->folder, "/model.safetensors.index.json"),
                      DumpJson(index, 2) + "\n");
}

}  // namespace rankine
