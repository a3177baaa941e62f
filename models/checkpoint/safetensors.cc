#include "models/checkpoint/safetensors.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/math.h"
#include "models/checkpoint/json.h"
#include "models/files/quoted.h"

namespace rankine {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

// The limit of the reference implementation.
constexpr int64_t kMaxHeaderBytes = 100'000'000;
// Real tensors have at most 5 axes; a header that lists thousands is hostile.
constexpr size_t kMaxAxes = 16;
constexpr char kMetadataKey[] = "__metadata__";

absl::StatusOr<std::vector<int64_t>> ReadIntegers(const JsonValue& array) {
  absl::StatusOr<std::vector<JsonValue>> elements = array.Elements();
  if (!elements.ok()) return elements.status();
  if (elements->size() > kMaxAxes) {
    return array.Error(
        absl::StrCat("has ", elements->size(), " numbers, at most ", kMaxAxes, " are supported"));
  }
  std::vector<int64_t> values;
  for (const JsonValue& element : *elements) {
    absl::StatusOr<int64_t> value = element.Int();
    if (!value.ok()) return value.status();
    if (*value < 0) return element.Error("is negative");
    values.push_back(*value);
  }
  return values;
}

// Bytes of the shape in that dtype, or an error when they do not fit in int64.
absl::StatusOr<int64_t> TensorBytes(const SafetensorsEntry& entry, const JsonValue& value) {
  int64_t bytes = SafetensorsDTypeSize(entry.dtype);
  for (const int64_t extent : entry.shape) {
    if (!CheckedMul(bytes, extent, &bytes)) {
      return value.Error(
          absl::StrCat("the shape [", absl::StrJoin(entry.shape, ", "), "] overflows"));
    }
  }
  return bytes;
}

// One member of the header. Offsets stay relative to the data section.
absl::StatusOr<SafetensorsEntry> ReadEntry(const std::string& name, const JsonValue& value) {
  SafetensorsEntry entry{.name = name};
  absl::StatusOr<std::vector<std::pair<std::string, JsonValue>>> members = value.Members();
  if (!members.ok()) return members.status();
  for (const auto& [key, unused] : *members) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      return value.Error(absl::StrCat("unknown key ", Quoted(key)));
    }
  }
  absl::StatusOr<JsonValue> dtype = value.Get("dtype");
  if (!dtype.ok()) return dtype.status();
  absl::StatusOr<std::string> dtype_name = dtype->String();
  if (!dtype_name.ok()) return dtype_name.status();
  entry.dtype = *dtype_name;
  if (SafetensorsDTypeSize(entry.dtype) == 0) {
    return dtype->Error(absl::StrCat("unknown dtype ", Quoted(entry.dtype)));
  }
  absl::StatusOr<JsonValue> shape = value.Get("shape");
  if (!shape.ok()) return shape.status();
  absl::StatusOr<std::vector<int64_t>> extents = ReadIntegers(*shape);
  if (!extents.ok()) return extents.status();
  entry.shape = *std::move(extents);
  absl::StatusOr<JsonValue> offsets_value = value.Get("data_offsets");
  if (!offsets_value.ok()) return offsets_value.status();
  absl::StatusOr<std::vector<int64_t>> offsets = ReadIntegers(*offsets_value);
  if (!offsets.ok()) return offsets.status();
  if (offsets->size() != 2 || (*offsets)[0] > (*offsets)[1]) {
    return offsets_value->Error("must be [begin, end] with begin <= end");
  }
  absl::StatusOr<int64_t> bytes = TensorBytes(entry, value);
  if (!bytes.ok()) return bytes.status();
  entry.offset = (*offsets)[0];
  entry.bytes = (*offsets)[1] - (*offsets)[0];
  if (entry.bytes != *bytes) {
    return value.Error(absl::StrCat("a span of ", entry.bytes, " bytes, but ", entry.dtype, " [",
                                    absl::StrJoin(entry.shape, ", "), "] needs ", *bytes));
  }
  return entry;
}

// Spans must tile the data section exactly.
absl::Status CheckLayout(const std::vector<SafetensorsEntry>& entries, int64_t data_bytes,
                         const std::string& path) {
  int64_t end = 0;
  const std::string* previous = nullptr;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.offset < end) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": the data of tensor ",
                                                     Quoted(entry.name), " overlaps that of ",
                                                     Quoted(*previous)));
    }
    if (entry.offset > end) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": a hole of ", entry.offset - end,
                                                     " bytes before the data of tensor ",
                                                     Quoted(entry.name)));
    }
    if (entry.bytes > data_bytes - end) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": the data of tensor ", Quoted(entry.name), " ends at byte ", end + entry.bytes,
          " of the data, but the file holds only ", data_bytes, ": is it truncated?"));
    }
    end += entry.bytes;
    previous = &entry.name;
  }
  if (end != data_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", data_bytes - end, " bytes after the last tensor belong to none"));
  }
  return absl::OkStatus();
}

absl::StatusOr<JsonValue> ReadHeaderJson(const ReadOnlyFile& file, int64_t* data_begin) {
  if (file.size() < 8) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.path(), ": ", file.size(), " bytes, too short for a safetensors file"));
  }
  uint64_t length = 0;
  if (absl::Status status = file.ReadAt(0, 8, &length); !status.ok()) return status;
  if (length > static_cast<uint64_t>(kMaxHeaderBytes)) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": a header of ", length,
                                                   " bytes, over the limit of ", kMaxHeaderBytes));
  }
  const int64_t header_bytes = static_cast<int64_t>(length);
  if (header_bytes > file.size() - 8) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": a header of ", header_bytes,
                                                   " bytes in a file of ", file.size(),
                                                   ": it is truncated, or not a safetensors file"));
  }
  std::string text(static_cast<size_t>(header_bytes), '\0');
  if (absl::Status status = file.ReadAt(8, header_bytes, text.data()); !status.ok()) return status;
  *data_begin = 8 + header_bytes;
  return JsonValue::Parse(text, file.path(),
                          JsonLimits{.max_bytes = kMaxHeaderBytes, .max_depth = 4});
}

constexpr std::pair<const char*, DType> kDTypes[] = {{"F32", DType::kF32},   {"F16", DType::kF16},
                                                     {"BF16", DType::kBF16}, {"I8", DType::kI8},
                                                     {"U8", DType::kU8},     {"I32", DType::kI32}};

// Of a folder without safetensors: it may hold a pickle, which says what to do.
absl::Status NoSafetensors(const std::string& folder) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    const bool is_bin = absl::StartsWith(name, "pytorch_model") && absl::EndsWith(name, ".bin");
    if (!is_bin && !absl::EndsWith(name, ".pt") && !absl::EndsWith(name, ".pth")) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        folder, ": ", name,
        " is a pickle, which can run any code when it is read, so it is never read here; make "
        "safetensors of it once: python tools/scripts/pickle_to_safetensors.py ",
        folder));
  }
  return absl::NotFoundError(
      absl::StrCat(folder, ": no model.safetensors and no model.safetensors.index.json"));
}

}  // namespace

const char* SafetensorsDTypeName(DType dtype) {
  for (const auto& [name, type] : kDTypes) {
    if (type == dtype) return name;
  }
  return "?";
}

bool FindSafetensorsDType(const std::string& name, DType* dtype) {
  for (const auto& [known, type] : kDTypes) {
    if (name != known) continue;
    *dtype = type;
    return true;
  }
  return false;
}

int64_t SafetensorsDTypeSize(const std::string& dtype) {
  static const std::map<std::string, int64_t> kSizes = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
      {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
      {"U32", 4},  {"F32", 4}, {"F64", 8}, {"I64", 8},     {"U64", 8}};
  const auto found = kSizes.find(dtype);
  return found == kSizes.end() ? 0 : found->second;
}

absl::StatusOr<std::vector<SafetensorsEntry>> ReadSafetensorsHeader(const ReadOnlyFile& file) {
  int64_t data_begin = 0;
  absl::StatusOr<JsonValue> header = ReadHeaderJson(file, &data_begin);
  if (!header.ok()) return header.status();
  absl::StatusOr<std::vector<std::pair<std::string, JsonValue>>> members = header->Members();
  if (!members.ok()) return members.status();
  std::vector<SafetensorsEntry> entries;
  for (const auto& [name, value] : *members) {
    if (name == kMetadataKey) {
      if (!value.IsObject()) return value.Error("must be an object");
      continue;
    }
    absl::StatusOr<SafetensorsEntry> entry = ReadEntry(name, value);
    if (!entry.ok()) return entry.status();
    entries.push_back(*std::move(entry));
  }
  // By end as well: an empty tensor lies before the one that begins at the same byte.
  std::sort(entries.begin(), entries.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
            });
  if (absl::Status status = CheckLayout(entries, file.size() - data_begin, file.path());
      !status.ok()) {
    return status;
  }
  for (SafetensorsEntry& entry : entries) entry.offset += data_begin;
  return entries;
}

absl::Status SafetensorsSet::AddFile(const std::string& path) {
  absl::StatusOr<ReadOnlyFile> file = ReadOnlyFile::Open(path);
  if (!file.ok()) return file.status();
  absl::StatusOr<std::vector<SafetensorsEntry>> entries = ReadSafetensorsHeader(*file);
  if (!entries.ok()) return entries.status();
  for (SafetensorsEntry& entry : *entries) {
    entry.shard = static_cast<int>(files_.size());
    if (!by_name_.emplace(entry.name, entries_.size()).second) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": tensor ", Quoted(entry.name),
                                                     " is also in ",
                                                     files_[Find(entry.name)->shard].path()));
    }
    entries_.push_back(std::move(entry));
  }
  files_.push_back(*std::move(file));
  return absl::OkStatus();
}

absl::Status SafetensorsSet::OpenShards(const std::string& folder, const std::string& index_path) {
  absl::StatusOr<JsonValue> index = JsonValue::ParseFile(index_path);
  if (!index.ok()) return index.status();
  absl::StatusOr<JsonValue> map = index->Get("weight_map");
  if (!map.ok()) return map.status();
  absl::StatusOr<std::vector<std::pair<std::string, JsonValue>>> members = map->Members();
  if (!members.ok()) return members.status();
  std::map<std::string, std::vector<std::string>> tensors_of;  // by shard
  for (const auto& [tensor, value] : *members) {
    absl::StatusOr<std::string> shard = value.String();
    if (!shard.ok()) return shard.status();
    if (shard->find_first_of(std::string("/\\\0", 3)) != std::string::npos ||
        !absl::EndsWith(*shard, ".safetensors")) {
      return value.Error(
          absl::StrCat("the shard ", Quoted(*shard),
                       " is not the plain name of a .safetensors file in this folder"));
    }
    tensors_of[*shard].push_back(tensor);
  }
  for (const auto& [shard, tensors] : tensors_of) {
    const size_t first = entries_.size();
    if (absl::Status status = AddFile(absl::StrCat(folder, "/", shard)); !status.ok()) {
      if (!absl::IsNotFound(status)) return status;
      return absl::NotFoundError(
          absl::StrCat(index_path, " lists a shard that is missing: ", shard));
    }
    for (const std::string& tensor : tensors) {
      const SafetensorsEntry* entry = Find(tensor);
      if (entry == nullptr || entry->shard + 1 != static_cast<int>(files_.size())) {
        return absl::InvalidArgumentError(absl::StrCat(index_path, ": tensor ", Quoted(tensor),
                                                       " is not in ", shard,
                                                       ", where the index has it"));
      }
    }
    if (entries_.size() - first != tensors.size()) {
      const std::vector<std::string> listed = tensors;
      for (size_t k = first; k < entries_.size(); ++k) {
        if (std::find(listed.begin(), listed.end(), entries_[k].name) == listed.end()) {
          return absl::InvalidArgumentError(absl::StrCat(index_path, ": ", shard, " holds tensor ",
                                                         Quoted(entries_[k].name),
                                                         ", which the index does not list there"));
        }
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<SafetensorsSet> SafetensorsSet::OpenFile(const std::string& path) {
  SafetensorsSet set;
  if (absl::Status status = set.AddFile(path); !status.ok()) return status;
  return set;
}

absl::StatusOr<SafetensorsSet> SafetensorsSet::Open(const std::string& folder) {
  SafetensorsSet set;
  const std::string single = absl::StrCat(folder, "/model.safetensors");
  const std::string index = absl::StrCat(folder, "/model.safetensors.index.json");
  std::error_code ignored;
  if (std::filesystem::exists(single, ignored)) {
    if (absl::Status status = set.AddFile(single); !status.ok()) return status;
    return set;
  }
  if (!std::filesystem::exists(index, ignored)) return NoSafetensors(folder);
  if (absl::Status status = set.OpenShards(folder, index); !status.ok()) return status;
  return set;
}

const SafetensorsEntry* SafetensorsSet::Find(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  return found == by_name_.end() ? nullptr : &entries_[found->second];
}

absl::Status SafetensorsSet::Read(const SafetensorsEntry& entry, int64_t begin, int64_t size,
                                  void* out) const {
  if (begin < 0 || size < 0 || begin > entry.bytes || size > entry.bytes - begin) {
    return absl::OutOfRangeError(absl::StrCat("tensor ", Quoted(entry.name), ": cannot read ", size,
                                              " bytes at ", begin, " of ", entry.bytes));
  }
  return files_[entry.shard].ReadAt(entry.offset + begin, size, out);
}

}  // namespace rankine
